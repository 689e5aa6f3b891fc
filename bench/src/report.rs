//! The table, the Markdown page and the chart.

use std::error::Error;

use comfy_table::{Table, presets};

use crate::sampling::Samples;

/// One line of the table.
pub(crate) struct Row {
    what: String,
    ours: String,
    against: String,
    theirs: String,
    ratio: Option<Ratio>,
    at_most: Option<f64>,
}

struct Ratio {
    value: f64,
    spread: (f64, f64),
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
        Row {
            what: what.into(),
            ours: time(ours.median()),
            against: against.into(),
            theirs: time(theirs.median()),
            ratio: Some(Ratio { value: ours.ratio_to(theirs), spread: ours.spread_to(theirs) }),
            at_most: Some(at_most),
        }
    }
}

fn time(ns: f64) -> String {
    if ns < 10_000.0 { format!("{ns:.0} ns") } else { format!("{:.1} µs", ns / 1000.0) }
}

pub(crate) fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["measured", "ours", "against", "theirs", "ratio", "spread", "at most", ""]);
    for row in rows {
        let verdict = match (&row.ratio, row.at_most) {
            (Some(ratio), Some(bound)) if ratio.value <= bound => "holds",
            (Some(_), Some(_)) => "does not",
            _ => "",
        };
        table.add_row([
            row.what.clone(),
            row.ours.clone(),
            row.against.clone(),
            row.theirs.clone(),
            row.ratio.as_ref().map_or(String::new(), |ratio| format!("{:.2}", ratio.value)),
            row.ratio.as_ref().map_or(String::new(), |ratio| {
                format!("{:.2}–{:.2}", ratio.spread.0, ratio.spread.1)
            }),
            row.at_most.map_or(String::new(), |bound| format!("{bound:.2}")),
            verdict.to_owned(),
        ]);
    }
    table
}

pub(crate) fn write(_rows: &[Row]) -> Result<(), Box<dyn Error>> {
    Ok(())
}
