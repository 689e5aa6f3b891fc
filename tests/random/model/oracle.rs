//! The model: what any sequence of operations must do. As a user would reckon it: guards, oldest first; what stands
//! below each signal; what came.

use super::*;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Disposition {
    Default,
    Ignored,
    Foreign { number: usize, kind: Kind, below: Box<Disposition> },
    Ours { installation: usize, level: usize, below: Box<Disposition> },
}

use self::Disposition::{Foreign, Ours};

impl Disposition {
    fn is_handler(&self) -> bool {
        matches!(self, Foreign { .. })
    }

    /// Two signals may have the same handler.
    fn function(&self) -> Option<(usize, bool)> {
        match self {
            Foreign { number, kind, .. } => Some((*number, kind.takes_siginfo)),
            _ => None,
        }
    }

    /// Whether the kernel has the same, whatever a foreign handler chains to.
    fn is_same(&self, other: &Disposition) -> bool {
        match (self, other) {
            (Foreign { number, .. }, Foreign { number: other, .. }) => number == other,
            (Ours { level, .. }, Ours { level: other, .. }) => level == other,
            _ => self == other,
        }
    }
}

impl Display for Disposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Disposition::Default => f.write_str("default"),
            Disposition::Ignored => f.write_str("ignored"),
            Ours { .. } => f.write_str("ours"),
            Foreign { number, kind, .. } => {
                let mask = kind.blocks.map_or(0, |signal| signal_bit(SIGNALS[signal]));
                f.write_str(&foreign_name(*number, kind.flags(), mask))
            }
        }
    }
}

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Death {
    Signal(Signal),
    Code(i32),
}

/// Which signals come half a second or more after the first of their kind. Only the victim's clock knows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Late {
    None,
    /// Those whose first came in an earlier operation.
    OfEarlier,
    All,
}

/// The signals from the first one that is installed to the last.
const ORDER: [usize; USUAL] = [0, 2, 1];

/// How often a guard's handler can be buried.
const LEVELS: usize = 4;

#[derive(Debug, Clone)]
pub(super) struct Model {
    now: [Disposition; USUAL],
    /// How many foreign handlers there have been.
    foreign: [usize; USUAL],
    /// How many levels of the guards' handlers foreign ones have buried, and what each last stood over.
    buried: [usize; USUAL],
    stood_over: [[Option<Disposition>; LEVELS]; USUAL],
    /// What the guards have.
    installed: Vec<Installed>,
    installations: usize,
    mail: [Mail; USUAL],
    /// Signals that came, in order.
    mailbox: VecDeque<usize>,
    /// The living guards, the oldest first.
    guards: Vec<Guard>,
    /// How many there have been.
    made: usize,
    /// What is still to be done for signals that came.
    steps: VecDeque<Step>,
    verdicts: Vec<Verdict>,
    /// A guard whose callback panicked on the watcher.
    failed: Option<usize>,
    /// Functions of old handlers that have been run since there was no guard.
    run: Vec<Option<(usize, bool)>>,
    /// Functions that were deferred and can be cancelled by their owner.
    cancellable: Vec<usize>,
    deferred_so_far: usize,
    operations: usize,
    late: Late,
    pub(super) lines: Vec<String>,
    pub(super) death: Option<Death>,
    /// Two threads are at work at once, and nobody can say in which order.
    pub(super) is_race: bool,
}

#[derive(Debug, Clone)]
struct Installed {
    signal: usize,
    number: usize,
    level: usize,
    below: Disposition,
    /// Older guards had the signal before it became its old handler's.
    since: usize,
}

/// What is known of the signals that came since the handler was installed.
#[derive(Debug, Clone, Copy, Default)]
struct Mail {
    /// In which operation the first one came.
    first: Option<usize>,
    is_first: bool,
    repeats: bool,
    answered: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    Armed,
    /// The watcher is to run the callback.
    Begun,
    Done {
        panicked: bool,
    },
}

#[derive(Debug, Clone)]
struct Guard {
    number: usize,
    build: Build,
    signals: Vec<usize>,
    state: State,
    is_open: bool,
    begun_by: Option<String>,
    first_signal: Option<usize>,
    /// The first signal for which it decides.
    decides: Option<usize>,
    staged: Vec<usize>,
}

#[derive(Debug, Clone)]
struct Step {
    signal: usize,
    installation: usize,
    has_old_handler: bool,
    decider: usize,
    is_first: bool,
    repeats: bool,
}

#[derive(Debug, Clone)]
struct Verdict {
    signal: usize,
    decider: usize,
    forced: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Thread {
    Main,
    Watcher,
}

#[derive(Clone, Copy, PartialEq)]
enum Closer {
    Silent,
    Disarm,
}

impl Model {
    pub(super) fn new() -> Model {
        Model {
            now: [const { Disposition::Default }; USUAL],
            foreign: [0; USUAL],
            buried: [0; USUAL],
            stood_over: [const { [const { None }; LEVELS] }; USUAL],
            installed: Vec::new(),
            installations: 0,
            mail: [Mail::default(); USUAL],
            mailbox: VecDeque::new(),
            guards: Vec::new(),
            made: 0,
            steps: VecDeque::new(),
            verdicts: Vec::new(),
            failed: None,
            run: Vec::new(),
            cancellable: Vec::new(),
            deferred_so_far: 0,
            operations: 0,
            late: Late::None,
            lines: Vec::new(),
            death: None,
            is_race: false,
        }
    }

    /// Whether the operation means anything now.
    pub(super) fn can(&self, op: &Op) -> bool {
        match op {
            Op::Build(build) => !build.append || self.guards.len() < MOST_GUARDS,
            Op::Signal(_) | Op::Ignore(_) | Op::Default(_) | Op::Exit => true,
            Op::Defer(..) | Op::Request(_) => self.made > 0,
            Op::Cancel(which) => *which < self.cancellable.len(),
            Op::Drop(_) | Op::Finish(_) | Op::Disarm(_) => !self.guards.is_empty(),
            Op::On(signal, _) => self.foreign[*signal] < MOST_HANDLERS,
            Op::Off(signal) => matches!(self.now[*signal], Foreign { .. }),
        }
    }

    /// What the operation does.
    pub(super) fn act(&mut self, op: &Op, late: Late) {
        self.late = late;
        self.lines.clear();
        self.operations += 1;
        match op {
            Op::Build(build) => self.build(build),
            Op::Defer(which, _) => {
                let name = self.deferred_so_far;
                self.deferred_so_far += 1;
                let which = which % self.made;
                if let Some(guard) = self.guards.iter_mut().find(|guard| guard.number == which) {
                    guard.staged.push(name);
                    self.cancellable.push(name);
                    self.say("staged");
                } else {
                    self.say(format!("freed {name}"));
                    self.say("not staged");
                }
            }
            Op::Cancel(which) => {
                let name = self.cancellable.remove(*which);
                let mut was_staged = false;
                for guard in &mut self.guards {
                    let staged = guard.staged.len();
                    guard.staged.retain(|staged| *staged != name);
                    was_staged |= guard.staged.len() < staged;
                }
                if was_staged {
                    self.say(format!("freed {name}"));
                }
                self.say(format!("cancelled: {was_staged}"));
            }
            Op::Signal(signal) => {
                self.deliver(*signal);
                self.watch();
            }
            Op::Request(which) => {
                let which = which % self.made;
                let armed =
                    |guard: &&mut Guard| guard.number == which && guard.state == State::Armed;
                if let Some(guard) = self.guards.iter_mut().find(armed) {
                    guard.state = State::Begun;
                    guard.begun_by = Some("Requested".into());
                }
                self.watch();
            }
            Op::Drop(which) => {
                let guard = self.close(*which, Closer::Silent);
                let unwinds = guard.state == State::Done { panicked: true };
                self.say(if unwinds { "unwound" } else { "dropped" });
                self.watch();
            }
            Op::Finish(which) => {
                let guard = self.close(*which, Closer::Silent);
                let signal = guard.first_signal.map(|signal| SIGNALS[signal].to_string());
                let panicked = guard.state == State::Done { panicked: true };
                self.say(finished(&guard.begun_by.unwrap(), signal.as_deref(), panicked));
                self.watch();
            }
            Op::Disarm(which) => {
                let guard = self.close(*which, Closer::Disarm);
                self.say(format!("disarmed: {}", guard.begun_by.is_none()));
                self.watch();
            }
            Op::On(signal, kind) => {
                let number = self.foreign[*signal];
                self.foreign[*signal] += 1;
                let below = Box::new(self.now[*signal].clone());
                self.now[*signal] = Foreign { number, kind: *kind, below };
            }
            Op::Off(signal) => {
                let Foreign { below, .. } = &self.now[*signal] else { unreachable!() };
                self.now[*signal] = (**below).clone();
            }
            Op::Ignore(signal) => self.now[*signal] = Disposition::Ignored,
            Op::Default(signal) => self.now[*signal] = Disposition::Default,
            Op::Exit => self.exit(),
        }
    }

    fn say(&mut self, line: impl Into<String>) {
        if self.death.is_none() {
            self.lines.push(line.into());
        }
    }

    fn die(&mut self, death: Death) {
        self.death.get_or_insert(death);
    }

    // Construction.

    fn build(&mut self, build: &Build) {
        match self.try_build(build) {
            Ok(new) => {
                for one in new {
                    let Installed { signal, number, level, .. } = one;
                    let below = Box::new(one.below.clone());
                    self.now[signal] = Ours { installation: number, level, below };
                    self.stood_over[signal][level] = Some(one.below.clone());
                    self.buried[signal] = level;
                    self.mail[signal] = Mail::default();
                    self.installed.push(one);
                }
                self.installations += 1;
                let has = |signal: &usize| {
                    build.signals.contains(signal) && self.installed_for(*signal).is_some()
                };
                self.guards.push(Guard {
                    number: self.made,
                    build: build.clone(),
                    signals: (0..USUAL).filter(has).collect(),
                    state: State::Armed,
                    is_open: true,
                    begun_by: None,
                    first_signal: None,
                    decides: None,
                    staged: Vec::new(),
                });
                self.made += 1;
                self.say("built");
            }
            Err(why) => {
                self.say(format!("callback {} freed", self.made));
                self.say(format!("refused: {why}"));
            }
        }
    }

    /// What is to be installed: the signals that no living guard has.
    fn try_build(&self, build: &Build) -> Result<Vec<Installed>, String> {
        if build.signals.is_empty() {
            return Err("no signals".into());
        }
        if build.signals.contains(&USUAL) {
            return Err("SIGKILL is unguardable".into());
        }
        if !build.append && !self.guards.is_empty() {
            return Err("nested".into());
        }
        let mut new: Vec<Installed> = Vec::new();
        for signal in ORDER {
            if !build.signals.contains(&signal) || self.installed_for(signal).is_some() {
                continue;
            }
            let (level, below) = self.found(signal);
            if below == Disposition::Ignored && !build.guards_ignored {
                continue;
            }
            if below.is_handler() && !build.append {
                return Err(format!("{} is handled", SIGNALS[signal]));
            }
            if below.is_handler() && level >= LEVELS {
                return Err(format!("{} is buried", SIGNALS[signal]));
            }
            let number = self.installations;
            new.push(Installed { signal, number, level, below, since: self.made });
        }
        Ok(new)
    }

    /// What an earlier guard left behind stands for what is below it.
    fn found(&self, signal: usize) -> (usize, Disposition) {
        let over = |top: &Disposition| {
            let is_over = |level: &usize| {
                self.stood_over[signal][*level].as_ref().is_some_and(|below| below.is_same(top))
            };
            (0..self.buried[signal]).find(is_over)
        };
        match &self.now[signal] {
            Ours { level, below, .. } => (*level, (**below).clone()),
            top @ Foreign { .. } => (over(top).unwrap_or(self.buried[signal]), top.clone()),
            top => (0, top.clone()),
        }
    }

    fn installed_for(&self, signal: usize) -> Option<&Installed> {
        self.installed.iter().find(|one| one.signal == signal)
    }

    /// Whether the guard has this signal.
    fn has(&self, guard: &Guard, signal: usize) -> bool {
        let installed = self.installed_for(signal);
        guard.signals.contains(&signal) && installed.is_some_and(|one| one.since <= guard.number)
    }

    fn guard(&mut self, number: usize) -> Option<&mut Guard> {
        self.guards.iter_mut().find(|guard| guard.number == number)
    }

    fn numbers_newest_first(&self) -> Vec<usize> {
        self.guards.iter().rev().map(|guard| guard.number).collect()
    }

    // A signal.

    /// The kernel delivers.
    fn deliver(&mut self, signal: usize) {
        match self.now[signal].clone() {
            Disposition::Default => self.die(Death::Signal(SIGNALS[signal])),
            Disposition::Ignored => {}
            foreign @ Foreign { .. } => self.call(signal, &foreign),
            Ours { installation, below, .. } => {
                if !self.arrives(signal, installation) {
                    // The guard is gone: its handler steps aside.
                    self.now[signal] = *below;
                    self.deliver(signal);
                }
            }
        }
    }

    /// A handler calls another.
    fn call(&mut self, signal: usize, disposition: &Disposition) {
        match disposition {
            Disposition::Default | Disposition::Ignored => {}
            Foreign { number, kind, below } => {
                self.say(format!("foreign {number} {}", SIGNALS[signal]));
                if kind.chains {
                    self.call(signal, below);
                }
            }
            Ours { installation, below, .. } => {
                if !self.arrives(signal, *installation) {
                    self.call(signal, below);
                }
            }
        }
    }

    /// The guards' handler is called. False if the signal is not theirs (any more).
    fn arrives(&mut self, signal: usize, installation: usize) -> bool {
        if self.installed_for(signal).is_none_or(|one| one.number != installation) {
            return false;
        }
        let (now, late) = (self.operations, self.late);
        let mail = &mut self.mail[signal];
        match mail.first {
            None => {
                mail.first = Some(now);
                mail.is_first = true;
            }
            Some(first) => {
                let is_late = late == Late::All || late == Late::OfEarlier && first < now;
                if is_late && std::mem::take(&mut mail.answered) {
                    *mail = Mail { first: Some(now), is_first: true, ..Mail::default() };
                } else {
                    mail.repeats |= is_late;
                }
            }
        }
        if !self.mailbox.contains(&signal) {
            self.mailbox.push_back(signal);
        }
        true
    }

    /// Exits begin, of all guards that have a signal which came; of several signals, with the first.
    fn admit(&mut self, of: impl Fn(&Guard) -> bool) {
        let is_open = |model: &Model, signal| {
            let is_its = |guard: &Guard| guard.is_open && model.has(guard, signal);
            model.guards.iter().any(|guard| is_its(guard) && of(guard))
        };
        for signal in std::mem::take(&mut self.mailbox) {
            if !is_open(self, signal) {
                self.mailbox.push_back(signal);
                continue;
            }
            let is_first = std::mem::take(&mut self.mail[signal].is_first);
            let repeats = self.mail[signal].repeats;
            let installed = self.installed_for(signal).unwrap();
            let (installation, has_old_handler) = (installed.number, installed.below.is_handler());
            let all = self.guards.iter();
            let theirs = all.filter(|guard| guard.is_open && self.has(guard, signal));
            let theirs: Vec<usize> = theirs.map(|guard| guard.number).collect();
            let decider = theirs[0];
            for number in theirs {
                let guard = self.guard(number).unwrap();
                guard.first_signal.get_or_insert(signal);
                if !has_old_handler && number == decider {
                    guard.decides.get_or_insert(signal);
                }
                if guard.state == State::Armed {
                    guard.state = State::Begun;
                    guard.begun_by = Some(SIGNALS[signal].to_string());
                }
            }
            let step = Step { signal, installation, has_old_handler, decider, is_first, repeats };
            self.steps.push_back(step);
        }
    }

    /// The watcher does what there is to do.
    fn watch(&mut self) {
        while self.death.is_none() {
            self.admit(|_| true);
            let begun = self.guards.iter().rev().find(|guard| guard.state == State::Begun);
            if let Some(number) = begun.map(|guard| guard.number) {
                if self.callback(number, "", Thread::Watcher) {
                    self.failed = Some(number);
                }
                continue;
            }
            if let Some(step) = self.steps.pop_front() {
                self.after_callbacks(&step);
                continue;
            }
            if let Some(cause) = self.failed.take().and_then(|number| self.guard(number)) {
                let cause = cause.begun_by.clone().unwrap();
                return self.end_process(Death::Code(FAILED_CODE), &cause, Thread::Watcher);
            }
            let ends =
                |number| self.guards.iter().any(|one| one.number == number && one.build.ends);
            let is_due = |verdict: &&Verdict| verdict.forced || ends(verdict.decider);
            let Some(due) = self.verdicts.iter().find(is_due).cloned() else { return };
            let decides = self.guard(due.decider).unwrap().decides.unwrap();
            let cause = SIGNALS[due.signal].to_string();
            return self.end_process(Death::Signal(SIGNALS[decides]), &cause, Thread::Watcher);
        }
    }

    fn after_callbacks(&mut self, step: &Step) {
        let Step { signal, decider, .. } = *step;
        if step.has_old_handler {
            // Once: the signal is its own from then on.
            if self.installed_for(signal).is_some_and(|one| one.number == step.installation) {
                self.run_old(signal);
            }
            return;
        }
        if self.guard(decider).is_none() {
            return;
        }
        let is_it = |verdict: &&mut Verdict| (verdict.signal, verdict.decider) == (signal, decider);
        match self.verdicts.iter_mut().find(is_it) {
            Some(verdict) => verdict.forced |= step.repeats,
            // A repeat of an event that has been answered.
            None if !step.is_first && !step.repeats => {}
            None => {
                let forced = step.is_first && step.repeats;
                self.verdicts.push(Verdict { signal, decider, forced });
            }
        }
    }

    /// Runs the callback; says whether it panics.
    fn callback(&mut self, number: usize, cause: &str, thread: Thread) -> bool {
        let guard = self.guard(number).unwrap();
        let cause = guard.begun_by.get_or_insert(cause.into()).clone();
        let (raises, panicked) = (guard.build.raises, guard.build.panics);
        guard.state = State::Done { panicked };
        self.say(format!("callback {number} begins: {cause}"));
        if let Some(signal) = raises {
            let came = self.mailbox.len();
            self.deliver(signal);
            // The watcher is awake at the same time.
            let has = |guard: &Guard| guard.is_open && self.has(guard, signal);
            let is_heard = self.mailbox.len() > came && self.guards.iter().any(has);
            self.is_race |= thread == Thread::Main && is_heard;
        }
        self.say(format!("callback {number} ends"));
        self.say(format!("callback {number} freed"));
        panicked
    }

    /// Puts the disposition back and has the signal delivered to it.
    fn run_old(&mut self, signal: usize) {
        let at = self.installed.iter().position(|one| one.signal == signal).unwrap();
        let one = self.installed.remove(at);
        self.run.push(one.below.function());
        self.mailbox.retain(|other| *other != signal);
        self.restore(&one);
        // Called by hand where a foreign handler is on top.
        self.call(signal, &one.below);
    }

    /// Only where the guards' handler is on top; else that is buried.
    fn restore(&mut self, one: &Installed) {
        let now = &mut self.now[one.signal];
        match now {
            Ours { level, .. } if *level == one.level => *now = one.below.clone(),
            Disposition::Default | Disposition::Ignored => {}
            top if top.is_same(&one.below) => {}
            _ => self.buried[one.signal] = one.level + 1,
        }
    }

    fn run_staged(&mut self, number: usize) {
        while let Some(name) = self.guard(number).and_then(|guard| guard.staged.pop()) {
            self.say(format!("deferred {name}"));
            self.say(format!("freed {name}"));
        }
    }

    // The end.

    /// The scope of a living guard ends. Returns the guard as it was in the end.
    fn close(&mut self, which: usize, by: Closer) -> Guard {
        let at = which % self.guards.len();
        let number = self.guards[at].number;
        self.guards[at].is_open = false;
        let had_begun = self.guards[at].begun_by.is_some();
        let disarmed = by == Closer::Disarm && !had_begun;
        if disarmed {
            for name in std::mem::take(&mut self.guards[at].staged).into_iter().rev() {
                self.say(format!("freed {name}"));
            }
        } else {
            if !had_begun {
                self.callback(number, "ScopeEnd", Thread::Main);
            }
            self.run_old_handlers_without_a_signal(number);
            self.run_staged(number);
        }
        let guard = self.guard(number).unwrap().clone();
        if let Some(signal) = guard.decides.filter(|_| guard.build.ends_after_scope) {
            let cause = guard.begun_by.clone().unwrap();
            self.end_process(Death::Signal(SIGNALS[signal]), &cause, Thread::Main);
            return guard;
        }
        self.leave(&guard);
        if disarmed {
            self.say(format!("callback {number} freed"));
        }
        guard
    }

    fn leave(&mut self, guard: &Guard) {
        self.guards.retain(|other| other.number != guard.number);
        self.verdicts.retain(|verdict| verdict.decider != guard.number);
        let guards = std::mem::take(&mut self.guards);
        let is_left = |one: &Installed| guards.iter().any(|guard| self.has(guard, one.signal));
        let (keep, restore): (Vec<_>, Vec<_>) = self.installed.iter().cloned().partition(is_left);
        self.guards = guards;
        self.installed = keep;
        for late in self.put_back(&restore) {
            // A quick repeat of one that the guards had is the same event.
            let mail = self.mail[late];
            if mail.is_first || mail.repeats {
                self.deliver(late);
            }
        }
        if let Some(signal) = guard.decides {
            self.mail[signal].answered = true;
        }
        if self.guards.is_empty() {
            self.run.clear();
        }
    }

    /// Returns the signals that came too late.
    fn put_back(&mut self, restore: &[Installed]) -> Vec<usize> {
        restore.iter().for_each(|one| self.restore(one));
        let is_its = |signal: &usize| restore.iter().any(|one| one.signal == *signal);
        let (late, other) = std::mem::take(&mut self.mailbox).into_iter().partition(is_its);
        self.mailbox = other;
        Vec::from(late)
    }

    /// `OldHandler::Always`: each distinct one that has not been run, with the last guard of its signal.
    fn run_old_handlers_without_a_signal(&mut self, number: usize) {
        if !self.guard(number).unwrap().build.always {
            return;
        }
        let is_its = |one: &&Installed| {
            let mut theirs = self.guards.iter().filter(|guard| self.has(guard, one.signal));
            one.below.is_handler() && theirs.all(|guard| guard.number == number)
        };
        for one in self.installed.iter().filter(is_its).cloned().collect::<Vec<_>>() {
            if self.run.contains(&one.below.function()) {
                let at = self.installed.iter().position(|other| other.signal == one.signal);
                self.installed.remove(at.unwrap());
                self.mailbox.retain(|other| *other != one.signal);
                self.restore(&one);
            } else {
                self.run_old(one.signal);
            }
        }
    }

    /// The process ends, after what all living guards have still to do.
    fn end_process(&mut self, death: Death, cause: &str, thread: Thread) {
        let failed = self.end_guards(cause, thread);
        self.die(if failed { Death::Code(FAILED_CODE) } else { death });
    }

    fn end_guards(&mut self, cause: &str, thread: Thread) -> bool {
        let mut failed = false;
        for number in self.numbers_newest_first() {
            self.admit(|guard| guard.number == number);
            if !matches!(self.guard(number).unwrap().state, State::Done { .. }) {
                self.callback(number, cause, thread);
            }
            failed |= self.guard(number).unwrap().state == State::Done { panicked: true };
            self.run_staged(number);
        }
        failed
    }

    fn exit(&mut self) {
        self.guards.iter_mut().for_each(|guard| guard.is_open = false);
        if self.end_guards("ProcessExit", Thread::Main) {
            return self.die(Death::Code(FAILED_CODE));
        }
        let by_signal = |guard: &Guard| guard.decides.filter(|_| guard.build.ends_after_scope);
        if let Some(signal) = self.guards.iter().find_map(by_signal) {
            return self.die(Death::Signal(SIGNALS[signal]));
        }
        let installed = std::mem::take(&mut self.installed);
        let has_handler =
            |signal| installed.iter().any(|one| one.signal == signal && one.below.is_handler());
        for late in self.put_back(&installed) {
            if has_handler(late) {
                self.deliver(late);
            }
        }
        self.die(Death::Code(EXIT_CODE));
    }

    pub(super) fn looks(&self) -> String {
        let [term, int, usr1] = &self.now;
        format!("looks: {term}, {int}, {usr1}")
    }
}
