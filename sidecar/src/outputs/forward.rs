//! Log records on by Fluent Forward: one PackedForward message per batch, taken when its id comes back.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::encode::forward_chunk;
use super::retry::Attempt;
use super::sink::{Answer, Send};

const TIMEOUT: Duration = Duration::from_secs(15);
/// `{"ack": id}`: a map of one pair, two short strings.
const ACK_BYTES_MAX: usize = 64;

pub struct Forward {
    /// `host:port`.
    address: String,
    connection: Mutex<Option<TcpStream>>,
}

impl Forward {
    pub fn new(address: String) -> Self {
        Forward { address, connection: Mutex::new(None) }
    }

    async fn send(&self, message: &[u8]) -> std::io::Result<()> {
        let mut held = self.connection.lock().await;
        // Whatever goes wrong, the next attempt has a connection of its own.
        let mut stream = match held.take() {
            Some(stream) => stream,
            None => TcpStream::connect(&self.address).await?,
        };
        stream.write_all(message).await?;
        let (id, mut answer) = (forward_chunk(message), Vec::new());
        while !answer.windows(id.len()).any(|part| part == id) {
            if answer.len() > ACK_BYTES_MAX || stream.read_buf(&mut answer).await? == 0 {
                return Err(std::io::Error::other("the connection ended before the message was acknowledged"));
            }
        }
        *held = Some(stream);
        Ok(())
    }
}

impl Send for Forward {
    async fn attempt(&self, body: &Bytes) -> Attempt<Answer> {
        match tokio::time::timeout(TIMEOUT, self.send(body)).await {
            Ok(Ok(())) => Attempt::Done(Answer::Stored),
            Ok(Err(error)) => Attempt::Later { after: None, why: error.to_string() },
            Err(_) => Attempt::Later { after: None, why: "no answer in time".to_owned() },
        }
    }
}
