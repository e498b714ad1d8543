//! A connection that is read either when the kernel says that something came, or by the clock.
//!
//! A log driver writes record by record, and each of its writes would wake the event loop, even while nobody waits for
//! it. So a busy connection is taken out of the event loop: it is looked at when its pause is over, and goes back as
//! soon as nothing was there.

use std::io::{self, ErrorKind, Read};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

/// A connection that can leave the event loop and come back.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin + Sized {
    /// Outside of the event loop; reading from it never blocks.
    type Outside: Read;

    fn leave(self) -> io::Result<Self::Outside>;
    fn come_back(outside: Self::Outside) -> io::Result<Self>;
}

impl Socket for UnixStream {
    type Outside = std::os::unix::net::UnixStream;

    fn leave(self) -> io::Result<Self::Outside> {
        self.into_std()
    }

    fn come_back(outside: Self::Outside) -> io::Result<Self> {
        UnixStream::from_std(outside)
    }
}

impl Socket for TcpStream {
    type Outside = std::net::TcpStream;

    fn leave(self) -> io::Result<Self::Outside> {
        self.into_std()
    }

    fn come_back(outside: Self::Outside) -> io::Result<Self> {
        TcpStream::from_std(outside)
    }
}

pub(super) struct Source<S: Socket> {
    /// None only when the connection broke on its way in or out.
    state: Option<State<S>>,
}

enum State<S: Socket> {
    Watched(S),
    Paused { outside: S::Outside, until: Instant },
}

impl<S: Socket> Source<S> {
    pub(super) fn new(stream: S) -> Self {
        Source { state: Some(State::Watched(stream)) }
    }

    /// How many bytes came, 0 at the end. Dropping the future loses nothing.
    pub(super) async fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if let Some(State::Paused { outside, until }) = &mut self.state {
            tokio::time::sleep_until(*until).await;
            match outside.read(into) {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                read => return read,
            }
        }
        self.watched()?.read(into).await
    }

    pub(super) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.watched()?.write_all(bytes).await
    }

    /// Nothing is to be read for so long: a busy connection does not disturb meanwhile.
    pub(super) async fn pause(&mut self, pause: Duration, busy: bool) -> io::Result<()> {
        let until = Instant::now() + pause;
        if !busy {
            tokio::time::sleep_until(until).await;
            return Ok(());
        }
        let outside = match self.state.take().ok_or(ErrorKind::NotConnected)? {
            State::Watched(stream) => stream.leave()?,
            State::Paused { outside, .. } => outside,
        };
        self.state = Some(State::Paused { outside, until });
        Ok(())
    }

    fn watched(&mut self) -> io::Result<&mut S> {
        if let Some(State::Paused { .. }) = &self.state
            && let Some(State::Paused { outside, .. }) = self.state.take()
        {
            self.state = Some(State::Watched(S::come_back(outside)?));
        }
        match &mut self.state {
            Some(State::Watched(stream)) => Ok(stream),
            _ => Err(ErrorKind::NotConnected.into()),
        }
    }
}

/// In tests: what is in memory has no event loop to leave.
#[cfg(test)]
mod in_memory {
    use futures::FutureExt;
    use tokio::io::DuplexStream;

    use super::*;

    pub(crate) struct Outside(DuplexStream);

    impl Read for Outside {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0.read(into).now_or_never().unwrap_or(Err(ErrorKind::WouldBlock.into()))
        }
    }

    impl Socket for DuplexStream {
        type Outside = Outside;

        fn leave(self) -> io::Result<Outside> {
            Ok(Outside(self))
        }

        fn come_back(outside: Outside) -> io::Result<Self> {
            Ok(outside.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_busy_connection_is_read_by_the_clock_and_watched_again_when_it_falls_silent() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        let (mut source, mut into) = (Source::new(ours), [0; 8]);
        theirs.write_all(b"one").await.expect("written");
        assert_eq!(source.read(&mut into).await.expect("read"), 3);
        source.pause(Duration::from_millis(1), true).await.expect("paused");
        theirs.write_all(b"two!").await.expect("written");
        assert_eq!(source.read(&mut into).await.expect("read"), 4);
        assert!(matches!(source.state, Some(State::Paused { .. })));
        source.pause(Duration::from_millis(1), true).await.expect("paused");
        let (read, written) = tokio::join!(source.read(&mut into), async {
            // Long after the pause: the reader has gone back to waiting.
            tokio::time::sleep(Duration::from_millis(50)).await;
            theirs.write_all(b"three").await
        });
        assert_eq!((read.expect("read"), written.is_ok()), (5, true));
        assert!(matches!(source.state, Some(State::Watched(_))));
        source.pause(Duration::from_millis(1), true).await.expect("paused");
        source.write_all(b"ack").await.expect("a paused connection can be written to");
        let mut answer = [0; 3];
        theirs.read_exact(&mut answer).await.expect("read");
        drop(theirs);
        assert_eq!((&answer, source.read(&mut into).await.expect("the end")), (b"ack", 0));
    }
}
