//! The table, the Markdown page and the chart.

use std::error::Error;
use std::fs;
use std::path::Path;

use comfy_table::{Table, presets};
use plotters::prelude::*;

use crate::sampling::Samples;

/// One line of the table.
pub(crate) struct Row {
    what: String,
    ours: String,
    against: String,
    theirs: String,
    ratio: Option<Ratio>,
    at_most: String,
    verdict: Option<Verdict>,
}

#[derive(Clone, Copy, PartialEq)]
enum Verdict {
    Holds,
    /// The median is below the bound, and a part of the run above it.
    Mostly,
    Exceeds,
}

impl Verdict {
    fn of(is_kept: bool) -> Option<Verdict> {
        Some(if is_kept { Verdict::Holds } else { Verdict::Exceeds })
    }
}

struct Ratio {
    value: f64,
    /// The least and the greatest that a fifth of the run alone would have given.
    spread: Option<(f64, f64)>,
    bound: Option<f64>,
}

impl Row {
    /// Two times, whose ratio is to be `at_most`.
    pub(crate) fn times(
        what: &str,
        ours: &Samples,
        against: &str,
        theirs: &Samples,
        at_most: f64,
    ) -> Row {
        let mut row = Row::growth(what, ours, against, theirs);
        let ratio = row.ratio.as_mut().expect("a row of times has a ratio");
        ratio.bound = Some(at_most);
        row.verdict = Some(match ratio.spread {
            _ if ratio.value > at_most => Verdict::Exceeds,
            Some((_, most)) if most > at_most => Verdict::Mostly,
            _ => Verdict::Holds,
        });
        row.at_most = format!("{at_most:.2}");
        row
    }

    /// Two times without a bound.
    pub(crate) fn growth(what: &str, ours: &Samples, against: &str, theirs: &Samples) -> Row {
        let value = ours.median() / theirs.median();
        let spread = Some(ours.spread_to(theirs));
        Row {
            what: what.into(),
            ours: time(ours.median()),
            against: against.into(),
            theirs: time(theirs.median()),
            ratio: Some(Ratio { value, spread, bound: None }),
            at_most: String::new(),
            verdict: None,
        }
    }

    /// Two counts; `at_most` is for what ours has more.
    pub(crate) fn counts(
        what: &str,
        ours: usize,
        against: &str,
        theirs: usize,
        at_most: usize,
    ) -> Row {
        Row {
            what: what.into(),
            ours: ours.to_string(),
            against: against.into(),
            theirs: theirs.to_string(),
            ratio: None,
            at_most: format!("{at_most} more"),
            verdict: Verdict::of(ours <= theirs + at_most),
        }
    }

    /// Two counts without a bound.
    pub(crate) fn plain_counts(what: &str, ours: &Samples, against: &str, theirs: &Samples) -> Row {
        Row {
            what: what.into(),
            ours: ours.median().to_string(),
            against: against.into(),
            theirs: theirs.median().to_string(),
            ratio: None,
            at_most: String::new(),
            verdict: None,
        }
    }

    /// What building takes, beside what it takes without the crate itself.
    pub(crate) fn build(what: &str, ours: &Samples, against: &str, theirs: &Samples) -> Row {
        const AT_MOST: f64 = 2.0e9;
        let mut row = Row::growth(what, ours, against, theirs);
        row.at_most = format!("{} more", time(AT_MOST));
        row.verdict = Verdict::of(ours.median() - theirs.median() <= AT_MOST);
        row
    }

    /// Two sizes in bytes.
    pub(crate) fn sizes(
        what: &str,
        ours: u64,
        against: &str,
        theirs: u64,
        bound: Option<f64>,
    ) -> Row {
        let kib = |bytes: u64| format!("{} KiB", bytes.div_ceil(1024));
        let value = ours as f64 / theirs as f64;
        Row {
            what: what.into(),
            ours: kib(ours),
            against: against.into(),
            theirs: kib(theirs),
            ratio: Some(Ratio { value, spread: None, bound }),
            at_most: bound.map_or(String::new(), |bound| format!("{bound:.2}")),
            verdict: bound.and_then(|bound| Verdict::of(value <= bound)),
        }
    }
}

fn time(ns: f64) -> String {
    match ns {
        ..10e3 => format!("{ns:.0} ns"),
        ..10e6 => format!("{:.1} µs", ns / 1e3),
        ..1e9 => format!("{:.1} ms", ns / 1e6),
        _ => format!("{:.1} s", ns / 1e9),
    }
}

/// The rows, as Markdown, which reads well in a terminal too.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "measured", "ours", "against", "theirs", "ratio", "spread", "at most", "within",
    ]);
    for row in rows {
        let ratio = row.ratio.as_ref();
        let spread = ratio.and_then(|ratio| ratio.spread);
        let verdict = match row.verdict {
            Some(Verdict::Holds) => "yes",
            Some(Verdict::Mostly) => "mostly",
            Some(Verdict::Exceeds) => "no",
            None => "",
        };
        table.add_row([
            &row.what,
            &row.ours,
            &row.against,
            &row.theirs,
            &ratio.map_or(String::new(), |ratio| format!("{:.2}", ratio.value)),
            &spread.map_or(String::new(), |(least, most)| format!("{least:.2}–{most:.2}")),
            &row.at_most,
            verdict,
        ]);
    }
    table.to_string()
}

/// Writes `bench.md` and `bench.svg` into a directory of the repository.
pub(crate) fn write(rows: &[Row], dir: &str, load: &str) -> Result<(), Box<dyn Error>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(dir);
    fs::create_dir_all(&dir)?;
    let (machine, peers, table) = (machine()?, peers(), table(rows));
    let page = format!(
        "# What the guard costs\n\
         \n\
         Measured by `cargo bench` on {machine}, beside {peers}, in one run. The load average\n\
         was {load} when the run began.\n\
         \n\
         ![Ratios and their bounds](bench.svg)\n\
         \n\
         Times are medians. The contestants take turns, each in a process of its own, so that other work on the\n\
         machine slows all of them. *Spread*: the smallest and the largest ratio of five parts of the run.\n\
         *At most*: the bound that this crate has set itself, and whether the ratio is within it: *yes* if all five\n\
         parts keep it, *mostly* if only the median does. Some rows compare with the least that the operating system\n\
         asks for, without any library.\n\
         \n\
         {table}\n\
         \n\
         These rows include work that ctrlc does not do: the guard looks at each disposition before it replaces it,\n\
         keeps when each signal came and who sent it, runs the callback with the mask of your thread, and decides\n\
         what a repeat means. A signal comes once in the life of a process, so all this code is cold: each line of\n\
         it is fetched from memory for the first time. A page that is touched for the first time costs as much as\n\
         thousands of instructions: the first guard touches them, so that a signal meets none. The wake-up and the\n\
         handler themselves take the same time for every crate.\n\
         \n\
         Without a bound:\n\
         \n\
         * Page faults: where the time of the first construction goes. A page that holds code, the stack of the thread\n\
           and the allocator's first pages count alike.\n\
         * A whole process beside one that has no handler. Such a process does nothing at all: the thread\n\
           that runs the callback, its first page faults and the callback are extra.\n\
         * A scope with more deferred functions, or more waiting threads: these rows show how it grows.\n"
    );
    fs::write(dir.join("bench.md"), page)?;
    chart(rows, &dir.join("bench.svg"))
}

/// The machine in general terms.
fn machine() -> Result<String, Box<dyn Error>> {
    let info = fs::read_to_string("/proc/cpuinfo")?;
    let model = info.lines().find_map(|line| line.strip_prefix("model name"));
    let model =
        model.map_or("an unnamed processor", |line| line.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let kernel: Vec<&str> = kernel.trim().split('.').take(2).collect();
    Ok(format!("{model}, {cores} cores, Linux {}", kernel.join(".")))
}

/// How many threads wanted to run in the last minute.
pub(crate) fn load_average() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or("unknown").into()
}

/// The peers with their versions, as locked.
fn peers() -> String {
    let lock = include_str!("../../../Cargo.lock");
    let version = |name: &str| {
        let package =
            lock.split("[[package]]").find(|one| one.contains(&format!("name = \"{name}\"\n")));
        let line =
            package.and_then(|one| one.lines().find_map(|line| line.strip_prefix("version = ")));
        format!("{name} {}", line.unwrap_or("").trim_matches('"'))
    };
    ["ctrlc", "signal-hook", "tokio"].map(version).join(", ")
}

/// A bar for each ratio that has a bound, with the bound as a line across it.
fn chart(rows: &[Row], path: &Path) -> Result<(), Box<dyn Error>> {
    const HOLDS: RGBColor = RGBColor(46, 125, 90);
    const DOES_NOT: RGBColor = RGBColor(200, 80, 60);
    const BAR: i32 = 26;

    // The chart counts upwards, the table downwards.
    let bounded = rows.iter().rev().filter_map(|row| {
        let ratio = row.ratio.as_ref()?;
        Some((row, ratio.value, ratio.bound?))
    });
    let bars: Vec<(&Row, f64, f64)> = bounded.collect();
    if bars.is_empty() {
        return Ok(());
    }
    let count = i32::try_from(bars.len())?;
    let most = bars.iter().fold(1.0, |most: f64, (_, value, bound)| most.max(*value).max(*bound));

    let height = u32::try_from(count * BAR + 70)?;
    let area = SVGBackend::new(path, (1000, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("handle-exit ÷ the other: bar; the most it may be: black line", ("sans-serif", 15))
        .margin(10)
        .set_label_area_size(LabelAreaPosition::Left, 560)
        .set_label_area_size(LabelAreaPosition::Bottom, 25)
        .build_cartesian_2d(0.0..most * 1.1, (0..count - 1).into_segmented())?;
    let label = |place: &SegmentValue<i32>| match place {
        SegmentValue::CenterOf(index) => {
            let bar = usize::try_from(*index).ok().and_then(|index| bars.get(index));
            bar.map_or(String::new(), |(row, ..)| {
                format!("{} / {}", row.what, row.against).replace('`', "")
            })
        }
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(bars.len())
        .y_label_formatter(&label)
        .label_style(("sans-serif", 12))
        .draw()?;
    for (index, (row, value, bound)) in (0..).zip(&bars) {
        let color = if row.verdict == Some(Verdict::Exceeds) { DOES_NOT } else { HOLDS };
        let (low, high) = (SegmentValue::Exact(index), SegmentValue::Exact(index + 1));
        let mut bar = Rectangle::new([(0.0, low.clone()), (*value, high.clone())], color.filled());
        bar.set_margin(4, 4, 0, 0);
        let bound = PathElement::new([(*bound, low), (*bound, high)], BLACK.stroke_width(2));
        chart.draw_series([bar])?;
        chart.draw_series([bound])?;
    }
    area.present()?;
    Ok(())
}
