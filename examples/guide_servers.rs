//! Shown in the guide: several servers in one process, which stop one by one and together.

use handle_exit::{Error, Exit, HandleExit};
use std::thread::{JoinHandle, spawn};

fn start(name: &'static str) -> Result<(Exit, JoinHandle<()>), Error> {
    let guard = HandleExit::append(|| {})?; // a guest: it leaves the process to the host
    let exit = guard.handle();
    let server = spawn(move || {
        guard.wait(); // stands for a serve loop: the guard lives as long as its server
        say(&format!("{name} has stopped"));
    });
    Ok((exit, server))
}

fn main() -> Result<(), Error> {
    let _host = HandleExit::new(|| {})?; // decides: the program continues when the servers have stopped
    let (api, api_server) = start("api")?;
    let (_, metrics_server) = start("metrics")?;
    api.request(); // stops this one alone
    api_server.join().unwrap();
    say("metrics still runs");
    metrics_server.join().unwrap(); // TERM and ^C stop every server that is left
    say("the program ends");
    Ok(())
}

fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{text}");
}
