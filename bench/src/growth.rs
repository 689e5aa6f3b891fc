use crate::report::Row;
pub(crate) fn measure() -> Vec<Row> { Vec::new() }
pub(crate) fn play(_: &str) {}
