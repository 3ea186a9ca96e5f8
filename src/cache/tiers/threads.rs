//! The threads on which a remote's calls run. Shutting down does not wait for them: one may hang in a network
//! share.

use std::io;

use tokio::runtime::{Builder, EnterGuard, Handle, Runtime};

pub(super) struct Threads {
    handle: Handle,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl Threads {
    pub(super) fn start() -> io::Result<Threads> {
        let runtime =
            Builder::new_multi_thread().worker_threads(2).thread_name("remote").enable_all().build()?;
        Ok(Threads { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(super) fn enter(&self) -> EnterGuard<'_> {
        self.handle.enter()
    }

    pub(super) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.handle.block_on(future)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_thread_that_is_stuck_is_not_waited_for() {
        let threads = Threads::start().unwrap();
        let (release, stuck) = mpsc::channel::<()>();
        let (begun, begins) = mpsc::channel();
        threads.handle().spawn_blocking(move || {
            begun.send(()).unwrap();
            stuck.recv()
        });
        begins.recv().unwrap();
        let (ended, ends) = mpsc::channel();
        std::thread::spawn(move || {
            drop(threads);
            ended.send(()).unwrap();
        });
        let has_ended = ends.recv_timeout(Duration::from_secs(60));
        drop(release);
        has_ended.unwrap();
    }
}
