//! Shown in the guide: a server with a stop method.

use handle_exit::HandleExit;
use std::sync::{Arc, Condvar, Mutex};

fn main() -> Result<(), handle_exit::Error> {
    let server = Arc::new(Server::default());
    let stop = Arc::clone(&server);
    let _guard = HandleExit::new(move || stop.shutdown())?;
    server.serve(); // returns after `shutdown`, when every request is answered
    Ok(()) // the process exits with 0
}

#[derive(Default)]
struct Server {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Server {
    fn shutdown(&self) {
        *self.stopped.lock().unwrap() = true;
        self.changed.notify_all();
    }

    fn serve(&self) {
        say("serving");
        let stopped = self.stopped.lock().unwrap();
        drop(self.changed.wait_while(stopped, |stopped| !*stopped).unwrap());
        say("every request is answered");
    }
}

fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{text}");
}
