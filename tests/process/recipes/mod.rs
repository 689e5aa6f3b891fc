//! The recipes that this crate grew from have test suites of their own. What only they test is in the files of this
//! folder; `ROWS` says for each row of theirs which test holds it.

pub(crate) mod handle_exit;
pub(crate) mod signal_exit;

use crate::support::Named;

struct Row {
    suite: &'static str,
    row: &'static str,
    tests: &'static [&'static str],
}

macro_rules! rows {
    ($($suite:literal: { $($row:literal => [$($($test:ident)::+),+],)+ })+) => {
        &[$($(Row { suite: $suite, row: $row, tests: &[$(concat!("process" $(, "::", stringify!($test))+)),+] },)+)+]
    };
}

#[rustfmt::skip]
const ROWS: &[Row] = rows! {
    // The Python recipe, whose names are kept.
    "handle_exit": {
        "no callback" => [recipes::handle_exit::test_no_callback],
        "callback" => [recipes::handle_exit::test_callback],
        "interrupt" => [recipes::handle_exit::test_interrupt_unwinding],
        "SIGTERM inside" => [recipes::handle_exit::test_sigterm_inside],
        "SIGINT inside" => [recipes::handle_exit::test_sigint_inside],
        "old SIGTERM handler" => [recipes::handle_exit::test_old_sigterm_handler],
        "old SIGINT handler" => [recipes::handle_exit::test_old_sigint_handler],
        "refusal without append" => [recipes::handle_exit::test_refusal_without_append],
        "nested" => [recipes::handle_exit::test_nested],
    }
    // Python.
    "register_exit_fun": {
        "functions run last in, first out, on a clean end and on TERM" =>
            [deferred::every_end_runs_them_last_in_first_out_after_the_callback],
        "an unregistered function is not run and is freed, in and out of order" =>
            [deferred::a_cancelled_one_does_not_run_and_the_others_keep_their_order,
             deferred::cancel_frees_what_was_captured_in_and_out_of_order],
        "an unregistered callback is not run and is freed" =>
            [routes::a_disarmed_callback_is_not_run_and_what_it_captured_is_freed],
        "a function is not entered again" =>
            [signals::a_function_is_not_entered_again_by_signals_that_come_while_it_runs],
        "a failing function is not reported as a clean stop" =>
            [policies::a_callback_that_panics_ends_the_process_with_101_whatever_the_policy],
        "as a decorator, without and with arguments" =>
            [waiting::run_lends_the_callback_and_the_body_what_the_caller_has,
             waiting::run_waits_for_a_callback_that_a_signal_began],
    }
    // Python.
    "pyterminate": {
        "exit codes after a signal" => [policies::a_scope_that_is_not_left_ends_the_process_as_ending_says],
        "exit codes without a signal" =>
            [recipes::signal_exit::every_exit_code_is_what_the_parent_sees, routes::a_panic_runs_the_callback],
        "a handler registered before with exit code 66" =>
            [old_handlers::an_old_handler_that_calls_underscore_exit_decides_the_status,
             old_handlers::an_old_handler_that_calls_exit_decides_the_status_and_deferred_functions_run],
        "exit_with_signal, normal and raising" => [exit_with_signal::it_ends_by_the_signal_normal_and_panicking],
        "exit_with_signal with a function registered" =>
            [exit_with_signal::it_runs_the_living_guard_as_the_signal_would],
        "exit_with_signal with a handler from before" =>
            [exit_with_signal::it_leaves_the_word_to_a_handler_from_before],
        "exit_with_signal with a function that fails" =>
            [exit_with_signal::it_does_not_hide_a_callback_that_failed],
        "exit_with_signal in a forked worker" =>
            [exit_with_signal::it_ends_a_forked_worker_without_the_masters_callback],
        "commands of the clean-up inherit no ignored signal" =>
            [signals::commands_started_in_the_callback_have_a_clean_mask],
    }
    // npm.
    "signal-exit": {
        "every signal, sent from outside" =>
            [recipes::signal_exit::every_signal_sent_from_outside_is_seen_as_the_parent_sees_it],
        "every signal, sent by the process itself" =>
            [recipes::signal_exit::every_signal_sent_by_the_process_itself_is_seen_as_the_parent_sees_it],
        "every exit code" => [recipes::signal_exit::every_exit_code_is_what_the_parent_sees],
        "two copies: the second is refused" => [recipes::signal_exit::of_two_copies_the_second_is_refused],
        "two copies: both run" => [recipes::signal_exit::of_two_copies_both_run_with_append],
        "two copies: unloaded in any order" => [recipes::signal_exit::two_copies_can_be_dropped_in_any_order],
        "many functions" => [deferred::every_end_runs_them_last_in_first_out_after_the_callback],
        "KILL in the list" => [dispositions::what_cannot_be_guarded_is_refused],
    }
};

fn every_row_of_the_suites_has_its_test() {
    let is_there =
        |test: &&str| crate::MODULES.iter().copied().flatten().any(|named| named.name == *test);
    for Row { suite, row, tests } in ROWS {
        let lost: Vec<_> = tests.iter().filter(|test| !is_there(test)).collect();
        assert!(lost.is_empty(), "{suite}: {row}: no test {lost:?}");
    }
}

pub(crate) const TESTS: &[Named] = crate::support::tests![every_row_of_the_suites_has_its_test];
