//! Shown in the guide: several servers in one process, which stop one by one and together.

use handle_exit::{Error, Exit, HandleExit};
use std::thread::{JoinHandle, spawn};

fn start(name: &'static str) -> Result<(Exit, JoinHandle<()>), Error> {
    let guard = HandleExit::append(|| {})?;
    let exit = guard.handle();
    let server = spawn(move || {
        guard.wait(); // stands for a serve loop: the guard lives as long as its server
        println!("{name} has stopped");
    });
    Ok((exit, server))
}

fn main() -> Result<(), Error> {
    let (api, api_server) = start("api")?;
    let (_, metrics_server) = start("metrics")?;
    api.request(); // stops this one alone
    api_server.join().unwrap();
    println!("metrics goes on");
    metrics_server.join().unwrap(); // TERM and ^C stop every server that is left
    Ok(())
}
