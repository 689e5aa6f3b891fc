//! When an event came. The handler runs on an ordinary thread, so `Instant` will do.

pub(crate) use std::time::Instant as Moment;
