//! The model: what any sequence of operations must do. As a user would reckon it: guards, oldest first; what stands
//! below each signal; what came.

use super::*;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Disposition {
    Default,
    Ignored,
    Foreign { number: usize, kind: Kind, below: Box<Disposition> },
    Ours { layer: usize, level: usize, below: Box<Disposition> },
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
    /// The handlers of the living guards. Of one signal the newest has what comes.
    layers: Vec<Layer>,
    layers_so_far: usize,
    /// In which operation the event came that was answered last.
    answered: [Option<usize>; USUAL],
    /// Signals that came, in order, each once.
    mailbox: VecDeque<usize>,
    /// Signals that came to no open guard.
    held: Vec<usize>,
    /// The living guards, the oldest first.
    guards: Vec<Guard>,
    /// How many there have been.
    made: usize,
    exits: Vec<SignalExit>,
    /// A guard whose callback panicked on the watcher.
    failed: Option<usize>,
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

/// The guards' handler of a signal, in place.
#[derive(Debug, Clone)]
struct Layer {
    signal: usize,
    id: usize,
    level: usize,
    below: Disposition,
    /// The guard that it was put there for.
    first: usize,
}

/// What a signal has begun.
#[derive(Debug, Clone)]
struct SignalExit {
    signal: usize,
    /// In which operation it came.
    first: usize,
    /// It had one when it came, which decides: one that is installed later has no say in this.
    has_old_handler: bool,
    /// A second wish to end came.
    is_wished: bool,
    /// The wait for the scope is over.
    is_forced: bool,
    /// The guard that decides, whose scope ends.
    answered_by: Option<usize>,
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
    /// Those that are not left ignored, nor given back to an old handler.
    signals: Vec<usize>,
    state: State,
    is_open: bool,
    begun_by: Option<String>,
    first_signal: Option<usize>,
    /// The first signal that its end has answered.
    decided: Option<usize>,
    /// Functions of old handlers that signals have had run.
    run: Vec<Option<(usize, bool)>>,
    staged: Vec<usize>,
}

impl Guard {
    fn is_host(&self) -> bool {
        !self.build.append
    }

    fn hears(&self, signal: usize) -> bool {
        self.is_open && self.signals.contains(&signal)
    }

    /// The signal by which the process ends with its scope.
    fn ends_by(&self) -> Option<usize> {
        let default = if self.is_host() { AfterScope::Continue } else { AfterScope::End };
        let after_scope = self.build.after_scope.unwrap_or(default);
        self.decided.filter(|_| after_scope == AfterScope::End)
    }
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
            layers: Vec::new(),
            layers_so_far: 0,
            answered: [None; USUAL],
            mailbox: VecDeque::new(),
            held: Vec::new(),
            guards: Vec::new(),
            made: 0,
            exits: Vec::new(),
            failed: None,
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
            Op::Build(build) => {
                let is_nested = !build.append && self.guards.iter().any(Guard::is_host);
                is_nested || self.guards.len() < MOST_GUARDS
            }
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
            Ok((new, signals)) => {
                for one in new {
                    let Layer { signal, id, level, .. } = one;
                    let below = Box::new(one.below.clone());
                    self.now[signal] = Ours { layer: id, level, below };
                    self.stood_over[signal][level] = Some(one.below.clone());
                    self.buried[signal] = level;
                    self.layers.push(one);
                    self.layers_so_far = self.layers_so_far.max(id + 1);
                }
                self.guards.push(Guard {
                    number: self.made,
                    build: build.clone(),
                    signals,
                    state: State::Armed,
                    is_open: true,
                    begun_by: None,
                    first_signal: None,
                    decided: None,
                    run: Vec::new(),
                    staged: Vec::new(),
                });
                self.made += 1;
                self.say("built");
                self.join_late();
                self.watch();
            }
            Err(why) => {
                self.say(format!("callback {} freed", self.made));
                self.say(format!("refused: {why}"));
            }
        }
    }

    /// What is to be installed, and the signals that the guard has.
    fn try_build(&self, build: &Build) -> Result<(Vec<Layer>, Vec<usize>), String> {
        if build.signals.is_empty() {
            return Err("no signals".into());
        }
        if build.signals.contains(&USUAL) {
            return Err("SIGKILL is unguardable".into());
        }
        if !build.append && self.guards.iter().any(Guard::is_host) {
            return Err("nested".into());
        }
        let (mut new, mut signals) = (Vec::new(), Vec::new());
        for signal in ORDER.into_iter().filter(|signal| build.signals.contains(signal)) {
            let ours = self.layer(signal).filter(|layer| self.is_on_top(layer));
            let (level, below) = match ours {
                Some(layer) => (layer.level, layer.below.clone()),
                None => self.found(signal),
            };
            if below == Disposition::Ignored && !build.guards_ignored {
                continue;
            }
            if below.is_handler() && !build.append {
                return Err(format!("{} is handled", SIGNALS[signal]));
            }
            if ours.is_none() && level >= LEVELS {
                return Err(format!("{} is buried", SIGNALS[signal]));
            }
            if ours.is_none() {
                let id = self.layers_so_far + new.len();
                new.push(Layer { signal, id, level, below, first: self.made });
            }
            signals.push(signal);
        }
        Ok((new, signals))
    }

    /// What an earlier guard left behind stands for what is below it. A level that a living guard has is not used
    /// again.
    fn found(&self, signal: usize) -> (usize, Disposition) {
        let lowest = self.layer(signal).map_or(0, |newest| newest.level + 1);
        let over = |top: &Disposition| {
            let is_over = |level: &usize| {
                self.stood_over[signal][*level].as_ref().is_some_and(|below| below.is_same(top))
            };
            (lowest..self.buried[signal]).find(is_over)
        };
        match &self.now[signal] {
            Ours { level, below, .. } => ((*level).max(lowest), (**below).clone()),
            top @ Foreign { .. } => {
                (over(top).unwrap_or(self.buried[signal].max(lowest)), top.clone())
            }
            top => (lowest, top.clone()),
        }
    }

    /// The newest one.
    fn layer(&self, signal: usize) -> Option<&Layer> {
        self.layers.iter().rfind(|layer| layer.signal == signal)
    }

    fn is_on_top(&self, layer: &Layer) -> bool {
        matches!(&self.now[layer.signal], Ours { layer: top, .. } if *top == layer.id)
    }

    /// The one that the guard was made with, or found.
    fn layer_of(&self, guard: &Guard, signal: usize) -> Option<&Layer> {
        let is_its = |layer: &&Layer| layer.signal == signal && layer.first <= guard.number;
        self.layers.iter().rfind(is_its).filter(|_| guard.signals.contains(&signal))
    }

    fn has_old_handler(&self, signal: usize) -> bool {
        self.layer(signal).is_some_and(|layer| layer.below.is_handler())
    }

    fn guard(&mut self, number: usize) -> Option<&mut Guard> {
        self.guards.iter_mut().find(|guard| guard.number == number)
    }

    fn numbers_newest_first(&self) -> Vec<usize> {
        self.guards.iter().rev().map(|guard| guard.number).collect()
    }

    /// The newest guard joins an exit that is under way.
    fn join_late(&mut self) {
        let Some(guard) = self.guards.last() else { return };
        let joins = |exit: &&SignalExit| exit.answered_by.is_none() && guard.hears(exit.signal);
        let (number, signal) =
            (guard.number, self.exits.iter().find(joins).map(|exit| exit.signal));
        if let Some(signal) = signal {
            self.join(number, signal);
        }
    }

    // A signal.

    /// The kernel delivers.
    fn deliver(&mut self, signal: usize) {
        match self.now[signal].clone() {
            Disposition::Default => self.die(Death::Signal(SIGNALS[signal])),
            Disposition::Ignored => {}
            foreign @ Foreign { .. } => self.call(signal, &foreign),
            Ours { layer, below, .. } => {
                if !self.arrives(signal, layer) {
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
            Ours { layer, below, .. } => {
                if !self.arrives(signal, *layer) {
                    self.call(signal, below);
                }
            }
        }
    }

    /// The guards' handler is called. False if the signal is not theirs (any more).
    fn arrives(&mut self, signal: usize, layer: usize) -> bool {
        let is_theirs = self.layer(signal).is_some_and(|newest| newest.id == layer);
        if is_theirs && !self.mailbox.contains(&signal) {
            self.mailbox.push_back(signal);
        }
        is_theirs
    }

    /// Whether what comes now is another event than the one that came in that operation.
    fn is_late(&self, first: usize) -> bool {
        match self.late {
            Late::None => false,
            Late::OfEarlier => first < self.operations,
            Late::All => true,
        }
    }

    /// Exits begin, of all guards that have a signal which came.
    fn admit(&mut self) {
        for signal in std::mem::take(&mut self.mailbox) {
            let is_heard = self.guards.iter().any(|guard| guard.hears(signal));
            let has_old_handler = self.has_old_handler(signal);
            let known = self.exits.iter().rposition(|exit| exit.signal == signal);
            if let Some(at) = known {
                let is_wish = self.is_late(self.exits[at].first);
                self.exits[at].is_wished |= is_wish && !self.exits[at].has_old_handler;
                if !is_wish || self.exits[at].answered_by.is_none() {
                    continue;
                }
            } else if self.answered[signal].is_some_and(|first| !self.is_late(first)) {
                // A quick repeat of what was answered is the same event.
                continue;
            }
            if !is_heard {
                self.hold(signal);
                continue;
            }
            for number in self.numbers_newest_first() {
                if self.guard(number).unwrap().hears(signal) {
                    self.join(number, signal);
                }
            }
            self.exits.push(SignalExit {
                signal,
                first: self.operations,
                has_old_handler,
                is_wished: false,
                is_forced: false,
                answered_by: None,
            });
        }
    }

    /// Several are one.
    fn hold(&mut self, signal: usize) {
        if !self.held.contains(&signal) {
            self.held.push(signal);
        }
    }

    fn join(&mut self, number: usize, signal: usize) {
        let guard = self.guard(number).unwrap();
        guard.first_signal.get_or_insert(signal);
        if guard.state == State::Armed {
            guard.state = State::Begun;
            guard.begun_by = Some(SIGNALS[signal].to_string());
        }
    }

    /// Who decides about a signal without a handler of its own: the host, or else the oldest guest.
    fn decider(&self, signal: usize) -> Option<usize> {
        let mut having = self.guards.iter().filter(|guard| guard.hears(signal));
        let host = having.clone().find(|guard| guard.is_host());
        host.or_else(|| having.next()).map(|guard| guard.number)
    }

    /// The exits that this guard decides are answered: its scope has ended in time.
    fn close_scope(&mut self, number: usize) {
        for at in 0..self.exits.len() {
            let signal = self.exits[at].signal;
            let has_old_handler = self.exits[at].has_old_handler;
            let decides = !has_old_handler && self.decider(signal) == Some(number);
            if decides && self.exits[at].answered_by.is_none() {
                self.exits[at].answered_by = Some(number);
                self.guard(number).unwrap().decided.get_or_insert(signal);
            }
        }
        self.guard(number).unwrap().is_open = false;
    }

    /// The watcher does what there is to do.
    fn watch(&mut self) {
        while self.death.is_none() {
            self.admit();
            let begun = self.guards.iter().rev().find(|guard| guard.state == State::Begun);
            if let Some(number) = begun.map(|guard| guard.number) {
                if self.callback(number, "", Thread::Watcher) {
                    self.failed = Some(number);
                }
                continue;
            }
            if let Some(at) = self.exits.iter().position(|exit| exit.has_old_handler) {
                // Once: the signal is its own from then on.
                let signal = self.exits.remove(at).signal;
                self.give_back(signal);
                continue;
            }
            for exit in &mut self.exits {
                exit.is_forced |= std::mem::take(&mut exit.is_wished);
            }
            if let Some(cause) = self.failed.take().and_then(|number| self.guard(number)) {
                let cause = cause.begun_by.clone().unwrap();
                return self.end_process(Death::Code(FAILED_CODE), &cause, Thread::Watcher);
            }
            let has_no_grace = |number| {
                self.guards.iter().any(|guard| Some(guard.number) == number && guard.build.ends)
            };
            let is_due = |exit: &&SignalExit| {
                let decider = self.decider(exit.signal);
                exit.answered_by.is_none() && (exit.is_forced || has_no_grace(decider))
            };
            let Some(due) = self.exits.iter().find(is_due).map(|exit| exit.signal) else { return };
            // Whatever else came: by the first one.
            let is_its = |exit: &&SignalExit| {
                exit.answered_by.is_none() && self.decider(exit.signal) == self.decider(due)
            };
            let first = self.exits.iter().find(is_its).unwrap().signal;
            let cause = SIGNALS[due].to_string();
            return self.end_process(Death::Signal(SIGNALS[first]), &cause, Thread::Watcher);
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
            let is_heard = self.guards.iter().any(|guard| guard.hears(signal));
            self.is_race |= thread == Thread::Main && is_heard && self.mailbox.len() > came;
        }
        self.say(format!("callback {number} ends"));
        self.say(format!("callback {number} freed"));
        panicked
    }

    /// Puts the disposition back and has the signal delivered to it.
    fn give_back(&mut self, signal: usize) {
        let layer = self.layer(signal).unwrap().clone();
        self.layers.retain(|layer| layer.signal != signal);
        self.mailbox.retain(|other| *other != signal);
        self.exits.retain(|exit| exit.signal != signal);
        self.answered[signal] = None;
        for guard in self.guards.iter_mut().filter(|guard| guard.signals.contains(&signal)) {
            guard.signals.retain(|its| *its != signal);
            guard.run.push(layer.below.function());
        }
        self.restore(&layer);
        // Called by hand where a foreign handler is on top.
        self.call(signal, &layer.below);
    }

    /// Only where the guards' handler is on top; else that is buried.
    fn restore(&mut self, one: &Layer) {
        let is_on_top = self.is_on_top(one);
        let now = &mut self.now[one.signal];
        match now {
            _ if is_on_top => *now = one.below.clone(),
            Disposition::Default | Disposition::Ignored => {}
            top if top.is_same(&one.below) => {}
            _ => {
                let buried = &mut self.buried[one.signal];
                *buried = (one.level + 1).max(*buried);
            }
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
        self.close_scope(number);
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
        if let Some(signal) = guard.ends_by() {
            let cause = guard.begun_by.clone().unwrap();
            self.end_process(Death::Signal(SIGNALS[signal]), &cause, Thread::Main);
            return guard;
        }
        self.leave(number);
        if disarmed {
            self.say(format!("callback {number} freed"));
        }
        guard
    }

    fn leave(&mut self, number: usize) {
        self.admit();
        self.guards.retain(|other| other.number != number);
        for exit in self.exits.iter().filter(|exit| exit.answered_by == Some(number)) {
            self.answered[exit.signal] = Some(exit.first);
        }
        self.exits.retain(|exit| exit.answered_by != Some(number));
        let is_used = |(at, layer): (usize, &Layer)| {
            let newer = self.layers[at + 1..].iter().find(|other| other.signal == layer.signal);
            let end = newer.map_or(usize::MAX, |newer| newer.first);
            self.guards.iter().any(|guard| {
                (layer.first..end).contains(&guard.number) && guard.signals.contains(&layer.signal)
            })
        };
        let is_used: Vec<bool> = self.layers.iter().enumerate().map(is_used).collect();
        let (keep, gone): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.layers).into_iter().zip(is_used).partition(|(_, used)| *used);
        self.layers = keep.into_iter().map(|(layer, _)| layer).collect();
        for late in self.put_back(gone.into_iter().map(|(layer, _)| layer).collect()) {
            self.deliver(late);
        }
    }

    /// Returns the signals that came too late.
    fn put_back(&mut self, gone: Vec<Layer>) -> Vec<usize> {
        for layer in gone.iter().rev() {
            // One below another one is out of the way.
            let newest = self.layer(layer.signal);
            if newest.is_none_or(|newest| newest.id < layer.id) {
                self.restore(layer);
            }
        }
        for layer in gone {
            if self.layer(layer.signal).is_none() {
                self.answered[layer.signal] = None;
            }
        }
        let is_nobodys = |signal: &usize| self.layer(*signal).is_none();
        let (late, held) = self.held.iter().partition(|signal| is_nobodys(signal));
        self.held = held;
        late
    }

    /// `OldHandler::Always`: each distinct one that no signal has had run, and it stays what it is.
    fn run_old_handlers_without_a_signal(&mut self, number: usize) {
        let guard = self.guard(number).unwrap().clone();
        if !guard.build.always {
            return;
        }
        let mut run = guard.run.clone();
        for signal in ORDER {
            let Some(layer) = self.layer_of(&guard, signal).cloned() else { continue };
            let function = layer.below.function();
            if layer.below.is_handler() && !run.contains(&function) {
                run.push(function);
                self.call(signal, &layer.below);
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
            self.admit();
            if !matches!(self.guard(number).unwrap().state, State::Done { .. }) {
                self.callback(number, cause, thread);
            }
            failed |= self.guard(number).unwrap().state == State::Done { panicked: true };
            self.run_staged(number);
        }
        failed
    }

    fn exit(&mut self) {
        for at in 0..self.guards.len() {
            self.close_scope(self.guards[at].number);
        }
        let decided = self.guards.iter().find_map(Guard::ends_by);
        if self.end_guards("ProcessExit", Thread::Main) {
            return self.die(Death::Code(FAILED_CODE));
        }
        if let Some(signal) = decided {
            return self.die(Death::Signal(SIGNALS[signal]));
        }
        self.admit();
        let layers = std::mem::take(&mut self.layers);
        // What would end the process, which ends, is not handed over.
        let ends_process =
            |layer: &&Layer| self.is_on_top(layer) && layer.below == Disposition::Default;
        let kept: Vec<usize> = layers.iter().filter(ends_process).map(|one| one.signal).collect();
        for late in self.put_back(layers) {
            if !kept.contains(&late) {
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
