//! Two web servers in one process, each with a guard of its own: they stop one by one, and together.

use std::net::Ipv4Addr;
use std::sync::mpsc::channel;
use std::time::Duration;

use axum::Router;
use axum::extract::Query;
use axum::routing::get;
use handle_exit::{AfterScope, Exit, HandleExit, Signal};
use serde::Deserialize;
use tokio::net::TcpListener;

use crate::http::{Clients, connects};
use crate::support::*;

#[derive(Deserialize)]
struct Slow {
    ms: u64,
}

/// Serves until its own exit begins, and answers what is in flight.
async fn serve(name: &'static str, started: impl FnOnce(Exit)) {
    let answer = async move |Query(Slow { ms }): Query<Slow>| {
        say(format!("{name} is asked"));
        tokio::time::sleep(Duration::from_millis(ms)).await;
        format!("This took {ms} ms.\n")
    };
    let app = Router::new().route("/slow", get(answer));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();

    // Two guests without a host: the program continues after their scopes.
    let builder = HandleExit::builder().append(true).after_scope(AfterScope::Continue);
    let builder = builder.grace(Duration::from_secs(30));
    let guard = builder.install(move || say(format!("{name} stops"))).unwrap();
    say(format!("{name} listens on {port}"));
    started(guard.handle());
    axum::serve(listener, app).with_graceful_shutdown(guard.begun()).await.unwrap();
    drop(guard);
    say(format!("{name} has stopped"));
}

fn two_servers() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let start = |name| {
        let (started, starts) = channel();
        let server = runtime.spawn(serve(name, move |exit| started.send(exit).unwrap()));
        (server, starts.recv().unwrap())
    };
    let (one, other) = (start("one"), start("other"));
    let exits = [("one", one.1), ("other", other.1)];
    say("ready");
    std::thread::spawn(move || {
        loop {
            let wanted = hear();
            let Some((_, exit)) = exits.iter().find(|(name, _)| *name == wanted) else { return };
            exit.request();
        }
    });
    for server in [one.0, other.0] {
        runtime.block_on(server).unwrap();
    }
    assert!(Exit::current().is_none());
    assert!(is_default(Signal::TERM) && is_default(Signal::INT));
    say("behind");
}

/// The process, and the ports of both.
fn start() -> (Victim, [u16; 2]) {
    let mut servers = Victim::start(two_servers);
    let ports = ["one", "other"]
        .map(|name| servers.expect_prefix(&format!("{name} listens on ")).parse().unwrap());
    servers.expect("ready");
    (servers, ports)
}

/// Clients whose requests are being answered.
fn ask(servers: &mut Victim, name: &str, port: u16) -> Clients {
    let clients = Clients::in_flight(port, 8, 1000);
    for _ in 0..8 {
        servers.expect(&format!("{name} is asked"));
    }
    clients
}

fn two_servers_stop_one_by_one() {
    for (first, second) in [(0, 1), (1, 0)] {
        let names = ["one", "other"];
        let (mut servers, ports) = start();
        let clients = ask(&mut servers, names[first], ports[first]);
        servers.tell(names[first]);
        clients.are_answered();
        servers.expect(&format!("{} has stopped", names[first]));
        assert!(!connects(ports[first]));
        // The other one goes on as if nothing had happened.
        ask(&mut servers, names[second], ports[second]).are_answered();
        let clients = ask(&mut servers, names[second], ports[second]);
        servers.tell(names[second]);
        clients.are_answered();
        let end = servers.end();
        end.ended_with("behind").exited(0);
        for name in names {
            assert_eq!(end.count(&format!("{name} stops")), 1, "{end:#?}");
        }
    }
}

fn a_signal_stops_both_servers() {
    for signal in [Signal::TERM, Signal::INT] {
        let (mut servers, [one, other]) = start();
        let (clients, others) = (ask(&mut servers, "one", one), ask(&mut servers, "other", other));
        servers.send(signal);
        clients.are_answered();
        others.are_answered();
        let end = servers.end();
        end.ended_with("behind").exited(0);
        // The newest first.
        let stops: Vec<_> = end.lines.iter().filter(|line| line.ends_with(" stops")).collect();
        assert_eq!(stops, ["other stops", "one stops"], "{end:#?}");
        assert!(!connects(one) && !connects(other));
    }
}

fn a_signal_stops_the_server_that_is_left() {
    let (mut servers, [one, other]) = start();
    servers.tell("one");
    servers.expect("one has stopped");
    assert!(!connects(one));
    let clients = ask(&mut servers, "other", other);
    servers.send(Signal::TERM);
    clients.are_answered();
    servers.end().ended_with("behind").exited(0);
}

pub(crate) const TESTS: &[Named] = tests![
    two_servers_stop_one_by_one,
    a_signal_stops_both_servers,
    a_signal_stops_the_server_that_is_left
];
