//! A TCP load balancer per service: round robin over the tasks that run and are healthy.
//!
//! Connections are copied, not understood, except that a caller gets an HTTP 503 when there is no task, as from an
//! application load balancer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::{Ecs, ServiceKey};
use crate::topology::Topology;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const NO_TARGET: &[u8] =
    b"HTTP/1.1 503 Service Temporarily Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

pub(crate) struct Balancer {
    key: ServiceKey,
    port: u16,
    listener: TcpListener,
}

pub(super) async fn bind_all(topology: &Topology) -> anyhow::Result<Vec<Balancer>> {
    let mut balancers = Vec::new();
    for (cluster, spec) in &topology.clusters {
        for (name, service) in &spec.services {
            let Some(lb) = &service.load_balancer else { continue };
            let setting = format!("load_balancer.listen of service {name} in the topology");
            let listener = service::http::bind(lb.listen, &setting).await?;
            let key = ServiceKey { cluster: cluster.clone(), service: name.clone() };
            balancers.push(Balancer { key, port: lb.port, listener });
        }
    }
    Ok(balancers)
}

impl Balancer {
    pub(crate) fn addr(&self) -> std::io::Result<(ServiceKey, SocketAddr)> {
        Ok((self.key.clone(), self.listener.local_addr()?))
    }

    pub(super) async fn run(self, ecs: Arc<Ecs>, shutdown: service::Shutdown) -> anyhow::Result<()> {
        let mut turn = 0usize;
        loop {
            let (client, _) = tokio::select! {
                () = shutdown.requested() => return Ok(()),
                accepted = self.listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(service = self.key.service, "load balancer failed to accept: {error}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
            };
            turn = turn.wrapping_add(1);
            let targets = self.targets(&ecs, turn);
            service::task::spawn("connection", forward(client, targets));
        }
    }

    /// The tasks that may be sent to, beginning with the one whose turn it is.
    fn targets(&self, ecs: &Ecs, turn: usize) -> Vec<SocketAddr> {
        let mut targets: Vec<SocketAddr> = ecs.read(|state| {
            let ready = state.tasks_of(&self.key).filter(|t| t.takes_traffic());
            ready.map(|t| SocketAddr::from((t.ip, self.port))).collect()
        });
        targets.sort();
        if !targets.is_empty() {
            let first = turn % targets.len();
            targets.rotate_left(first);
        }
        targets
    }
}

async fn forward(mut client: TcpStream, targets: Vec<SocketAddr>) {
    for target in targets {
        if let Ok(Ok(mut server)) = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(target)).await {
            // Small requests and answers must not wait for Nagle's timer twice.
            let _ = client.set_nodelay(true);
            let _ = server.set_nodelay(true);
            // An error here is a peer that hung up, which is how most connections end.
            let _ = copy_bidirectional(&mut client, &mut server).await;
            return;
        }
    }
    // The request is read first: closing with unread data would reset the connection and lose the answer.
    let mut request = [0; 4096];
    let _ = tokio::time::timeout(CONNECT_TIMEOUT, client.read(&mut request)).await;
    let _ = client.write_all(NO_TARGET).await;
    let _ = client.shutdown().await;
}
