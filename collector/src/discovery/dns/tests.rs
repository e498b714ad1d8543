use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use hickory_resolver::config::NameServerConfig;
use hickory_resolver::proto::op::Message;
use hickory_resolver::proto::rr::Record;
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, MX, NS, SRV};
use tokio::net::UdpSocket;
use tokio::sync::Notify;

use super::super::source::Found;
use super::*;
use crate::clock::Clock;

#[derive(Clone)]
enum Answer {
    Records(Vec<RData>),
    Code(ResponseCode),
}

/// A server on loopback that knows these names; of others it says that they do not exist.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<HashMap<(String, RecordType), Answer>>>);

impl Server {
    fn knows(&self, name: &str, kind: RecordType, answer: Answer) {
        self.0.lock().unwrap().insert((name.to_owned(), kind), answer);
    }

    fn answer(&self, request: &Message) -> Message {
        let query = request.queries[0].clone();
        let key = (query.name().to_string(), query.query_type());
        let mut response = Message::response(request.metadata.id, request.metadata.op_code);
        response.add_query(query.clone());
        match self.0.lock().unwrap().get(&key).cloned().unwrap_or(Answer::Code(ResponseCode::NXDomain)) {
            Answer::Code(code) => response.metadata.response_code = code,
            Answer::Records(list) => {
                let records = list.into_iter().map(|data| Record::from_rdata(query.name().clone(), 0, data));
                response.add_answers(records);
            }
        }
        response
    }

    /// Serves, and says how to ask.
    async fn start(&self, search: &[&str]) -> Servers {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let server = self.clone();
        service::task::spawn("dns", async move {
            let mut buffer = [0; 4096];
            while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
                let response = server.answer(&Message::from_vec(&buffer[..len]).unwrap());
                socket.send_to(&response.to_vec().unwrap(), from).await.unwrap();
            }
        });
        let mut name_server = NameServerConfig::udp(IpAddr::V4(Ipv4Addr::LOCALHOST));
        name_server.connections[0].port = port;
        let search = search.iter().map(|domain| name(domain)).collect();
        let mut options = options();
        options.attempts = 1;
        Some((ResolverConfig::from_parts(None, search, vec![name_server]), options))
    }
}

/// Names of two dots are tried as they stand.
fn options() -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.ndots = 2;
    options
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn a(last: u8) -> RData {
    RData::A(A(Ipv4Addr::new(10, 0, 0, last)))
}

fn config(yaml: &str) -> Config {
    let config: Config = serde_saphyr::from_str(yaml).unwrap();
    config.check().unwrap();
    config
}

/// What a refresh publishes.
async fn refreshed(source: &mut DnsSource, found: &Arc<Mutex<Found>>) -> (Vec<String>, Option<String>) {
    source.refresh().await;
    let found = found.lock().unwrap().clone();
    let targets = found.groups.iter().flat_map(|group| group.targets.iter().map(ToString::to_string));
    (targets.collect(), found.error)
}

fn source(config: Config, servers: Servers) -> (DnsSource, Arc<Mutex<Found>>) {
    let (publisher, found) = Publisher::of_test(Arc::new(Notify::new()), Clock::System);
    (DnsSource { servers, ..DnsSource::new(config, publisher) }, found)
}

#[tokio::test]
async fn every_kind_of_record_becomes_targets_with_prometheus_labels() {
    let server = Server::default();
    let srv = |port, host| RData::SRV(SRV::new(0, 0, port, name(host)));
    server.knows("_http._tcp.x.", RecordType::SRV, Answer::Records(vec![srv(2, "b.x."), srv(1, "a.x.")]));
    // A name that is another one's.
    server.knows("a.x.", RecordType::A, Answer::Records(vec![RData::CNAME(CNAME(name("c.x."))), a(2), a(1), a(2)]));
    server.knows("a.x.", RecordType::AAAA, Answer::Records(vec![RData::AAAA(AAAA("fd00::1".parse().unwrap()))]));
    server.knows("x.", RecordType::MX, Answer::Records(vec![RData::MX(MX::new(1, name("mail.x.")))]));
    server.knows("x.", RecordType::NS, Answer::Records(vec![RData::NS(NS(name("ns.x.")))]));
    let servers = server.start(&[]).await;
    for (yaml, expected) in [
        (
            "{names: [_http._tcp.x.]}",
            vec![
                r#"{__address__="a.x:1", __meta_dns_name="_http._tcp.x.", __meta_dns_srv_record_port="1", __meta_dns_srv_record_target="a.x."}"#,
                r#"{__address__="b.x:2", __meta_dns_name="_http._tcp.x.", __meta_dns_srv_record_port="2", __meta_dns_srv_record_target="b.x."}"#,
            ],
        ),
        (
            "{names: [a.x.], type: A, port: 80}",
            vec![
                r#"{__address__="10.0.0.1:80", __meta_dns_name="a.x."}"#,
                r#"{__address__="10.0.0.2:80", __meta_dns_name="a.x."}"#,
            ],
        ),
        ("{names: [a.x.], type: aaaa, port: 80}", vec![r#"{__address__="[fd00::1]:80", __meta_dns_name="a.x."}"#]),
        (
            "{names: [x.], type: MX, port: 25}",
            vec![r#"{__address__="mail.x:25", __meta_dns_mx_record_target="mail.x.", __meta_dns_name="x."}"#],
        ),
        (
            "{names: [x.], type: NS, port: 53}",
            vec![r#"{__address__="ns.x:53", __meta_dns_name="x.", __meta_dns_ns_record_target="ns.x."}"#],
        ),
    ] {
        let (mut source, found) = source(config(yaml), servers.clone());
        let expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
        assert_eq!(refreshed(&mut source, &found).await, (expected, None), "{yaml}");
    }
}

#[tokio::test]
async fn an_error_keeps_what_the_name_had_and_a_name_that_is_gone_has_nothing() {
    let server = Server::default();
    server.knows("one.", RecordType::A, Answer::Records(vec![a(1)]));
    server.knows("two.", RecordType::A, Answer::Records(vec![a(2)]));
    let servers = server.start(&[]).await;
    let (mut source, found) = source(config("{names: [one., two.], type: A, port: 1}"), servers);
    let of = |last: u8, name: &str| format!(r#"{{__address__="10.0.0.{last}:1", __meta_dns_name="{name}"}}"#);
    assert_eq!(refreshed(&mut source, &found).await, (vec![of(1, "one."), of(2, "two.")], None));

    server.knows("one.", RecordType::A, Answer::Code(ResponseCode::ServFail));
    server.knows("two.", RecordType::A, Answer::Records(vec![a(3)]));
    let (targets, error) = refreshed(&mut source, &found).await;
    assert_eq!(targets, [of(1, "one."), of(3, "two.")], "each name for itself");
    assert!(error.as_ref().is_some_and(|error| error.starts_with(r#"failed to look up "one.""#)), "{error:?}");

    server.knows("one.", RecordType::A, Answer::Code(ResponseCode::NXDomain));
    assert_eq!(refreshed(&mut source, &found).await, (vec![of(3, "two.")], None));
    // It exists and has no such records.
    server.knows("two.", RecordType::A, Answer::Records(Vec::new()));
    assert_eq!(refreshed(&mut source, &found).await, (Vec::new(), None));
}

#[tokio::test]
async fn a_name_is_looked_for_in_the_search_domains() {
    let server = Server::default();
    server.knows("app.prod.internal.", RecordType::A, Answer::Records(vec![a(1)]));
    server.knows("a.b.c.", RecordType::A, Answer::Records(vec![a(2)]));
    server.knows("half.dev.internal.", RecordType::A, Answer::Code(ResponseCode::ServFail));
    let servers = server.start(&["dev.internal.", "prod.internal."]).await;
    let answer = async |name: &str| {
        let (mut source, found) = source(config(&format!("{{names: [{name}], type: A, port: 1}}")), servers.clone());
        let (targets, error) = refreshed(&mut source, &found).await;
        (targets.len(), error.is_some())
    };
    assert_eq!(answer("app").await, (1, false));
    assert_eq!(answer("a.b.c").await, (1, false));
    assert_eq!(answer("nowhere").await, (0, false));
    assert_eq!(answer("half").await, (0, true), "nobody knows whether it exists");
}

#[test]
fn names_with_enough_dots_are_tried_as_they_stand_first() {
    let config =
        ResolverConfig::from_parts(None, vec![name("s.")], vec![NameServerConfig::udp(Ipv4Addr::LOCALHOST.into())]);
    let lookup = Lookup::new(Some((config, options()))).unwrap();
    let candidates = |name: &str| lookup.candidates(name).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(candidates("a.b"), ["a.b.s.", "a.b."]);
    assert_eq!(candidates("a.b.c"), ["a.b.c.", "a.b.c.s."]);
    assert_eq!(candidates("a."), ["a."]);
}

#[test]
fn what_cannot_be_asked_is_refused_by_name() {
    for (yaml, part) in [
        ("{names: []}", "names cannot be empty"),
        ("{names: [x], type: A}", "a port is required for all record types except SRV"),
        ("{names: [x], refresh_interval: 0s}", "refresh_interval cannot be 0"),
    ] {
        let config: Config = serde_saphyr::from_str(yaml).unwrap();
        assert!(config.check().unwrap_err().contains(part), "{yaml}");
    }
    assert!(serde_saphyr::from_str::<Config>("{names: [x], type: PTR}").unwrap_err().to_string().contains("PTR"));
    assert!(serde_saphyr::from_str::<Config>("{names: [x], server: y}").unwrap_err().to_string().contains("server"));
}
