//! One line a request, written by one thread for all.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

/// Lines that may wait. At 300 bytes a line this is a few megabytes; more would only hide a slow disk.
const QUEUE: usize = 8192;

/// Bytes written at once at most.
const BATCH: usize = 64 * 1024;

/// Where access log lines go.
pub struct AccessLogSink(Box<dyn Write + Send>);

impl AccessLogSink {
    /// Lines are written by a thread of their own, in batches, each line whole.
    pub fn new(writer: impl Write + Send + 'static) -> Self {
        Self(Box::new(writer))
    }
}

/// The sending side. A line that finds the queue full is dropped.
#[derive(Clone)]
pub(crate) struct AccessLog(SyncSender<String>);

impl AccessLog {
    /// Starts the writer. It ends when the last sender has gone and all lines are written.
    pub(crate) fn start(sink: AccessLogSink) -> io::Result<(Self, thread::JoinHandle<()>)> {
        let (sender, receiver) = sync_channel(QUEUE);
        let writer =
            thread::Builder::new().name("access-log".into()).spawn(move || write_all(sink.0, &receiver))?;
        Ok((Self(sender), writer))
    }

    /// Takes no line: all are dropped and counted.
    pub(crate) fn closed() -> Self {
        Self(sync_channel(0).0)
    }

    /// Whether the line was taken.
    pub(crate) fn send(&self, line: String) -> bool {
        match self.0.try_send(line) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

fn write_all(mut writer: Box<dyn Write + Send>, lines: &Receiver<String>) {
    let mut failed = false;
    while let Ok(first) = lines.recv() {
        let mut batch = first;
        while batch.len() < BATCH {
            match lines.try_recv() {
                Ok(line) => batch.push_str(&line),
                Err(_) => break,
            }
        }
        let written = writer.write_all(batch.as_bytes()).and_then(|()| writer.flush());
        match written {
            Err(error) if !std::mem::replace(&mut failed, true) => {
                tracing::warn!(%error, "access log cannot be written");
            }
            Err(_) => {}
            Ok(()) => failed = false,
        }
    }
}
