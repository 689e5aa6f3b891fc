//! A mailbox without a handler: what counts as a repeat, and what is left.

use super::*;

#[test]
fn a_handler_that_never_ends_is_waited_for_once() {
    IN_HANDLER.fetch_add(1, SeqCst);
    let begun = Instant::now();
    wait_for_handlers();
    assert!(begun.elapsed() >= IN_FLIGHT);
    let begun = Instant::now();
    wait_for_handlers();
    assert!(begun.elapsed() < IN_FLIGHT);
    // It ends after all.
    IN_HANDLER.fetch_sub(1, SeqCst);
    wait_for_handlers();
    assert_eq!(GIVEN_UP.load(SeqCst), 0);
}

/// The next signal comes so long after the first.
fn comes(mailbox: &Mailbox, after: usize, from_kernel: bool) -> bool {
    mailbox.first.store(clock::now().wrapping_sub(after), SeqCst);
    mailbox.is_repeat(from_kernel)
}

#[test]
fn two_keys_are_two_wishes_and_so_is_what_comes_later() {
    let mailbox = Mailbox::new();
    assert!(!mailbox.is_repeat(false));
    assert!(!comes(&mailbox, 0, false), "the same event");
    assert!(!comes(&mailbox, 0, true), "the first key");
    assert!(!comes(&mailbox, 0, false), "the same event");
    assert!(comes(&mailbox, 0, true), "the second key");
    assert!(comes(&mailbox, SAME_EVENT, false));
}

#[test]
fn what_was_answered_is_no_part_of_what_comes_later() {
    let mailbox = Mailbox::new();
    assert!(!mailbox.is_repeat(true));
    mailbox.is_first.store(false, SeqCst);
    mailbox.repeats.store(true, SeqCst);
    mailbox.answered.store(true, SeqCst);
    assert!(!comes(&mailbox, 0, false), "the same event");
    assert!(!mailbox.is_first.load(SeqCst));
    assert!(!comes(&mailbox, SAME_EVENT, false), "the first of the next event");
    assert!(mailbox.is_first.load(SeqCst) && !mailbox.repeats.load(SeqCst));
    assert!(!mailbox.is_repeat(false), "it counts from there on");
    assert!(!comes(&mailbox, 0, true), "its first key");
    assert!(comes(&mailbox, SAME_EVENT, false), "not answered yet");
}

#[test]
fn of_a_mailbox_that_is_reset_nothing_is_left() {
    let mailbox = Mailbox::new();
    mailbox.is_repeat(true);
    mailbox.answered.store(true, SeqCst);
    mailbox.repeats.store(true, SeqCst);
    mailbox.cut.store(cut::encode(Some(Status::Failed)), SeqCst);
    mailbox.state.store(FULL, SeqCst);
    mailbox.reset();
    assert!(mailbox.take(Signal::TERM).is_none());
    assert!(!mailbox.is_first.load(SeqCst) && !mailbox.repeats.load(SeqCst));
    assert_eq!(mailbox.cut.load(SeqCst), cut::NONE);
    assert!(!mailbox.is_repeat(false) && mailbox.is_first.load(SeqCst), "the first one");
    assert!(!comes(&mailbox, 0, true), "the first key");
    assert!(comes(&mailbox, SAME_EVENT, false), "no answer is left");
}
