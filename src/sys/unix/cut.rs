//! How a repeat that cuts the callback ends the process, as a number that a handler can read at once.

use crate::signal::Signal;
use crate::sys::status::Status;

/// Zero, like everything in a new mailbox.
pub(super) const NONE: u32 = 0;
const BY_SIGNAL: u32 = 0x100;
const BY_CODE: u32 = 0x200;

/// What in the low byte: a signal number, or the part of a code that wait(2) keeps.
pub(super) fn encode(cut: Option<Status>) -> u32 {
    let low = |value: i32| u32::from(value as u8);
    match cut {
        None => NONE,
        Some(Status::Signal(signal)) => BY_SIGNAL | low(signal.as_raw()),
        Some(status) => BY_CODE | low(status.code()),
    }
}

pub(super) fn decode(cut: u32) -> Option<Status> {
    let low = i32::from(cut as u8);
    match cut & !0xff {
        BY_SIGNAL => Signal::from_raw(low).map(Status::Signal),
        BY_CODE => Some(Status::Code(low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_is_read_back_as_far_as_a_parent_sees_it() {
        let term = Some(Status::Signal(Signal::TERM));
        assert_eq!(decode(encode(term)), term);
        assert_eq!(decode(encode(None)), None);
        for (code, seen) in [(0, 0), (3, 3), (255, 255), (256, 0), (-1, 255)] {
            assert_eq!(decode(encode(Some(Status::Code(code)))), Some(Status::Code(seen)));
        }
        assert_eq!(decode(encode(Some(Status::Failed))), Some(Status::Code(101)));
    }
}
