//! An Alertmanager that speaks TLS only, wants to see a certificate and a password: told by whom it trusts.

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};

use super::world::{QUICK, World, free_port};

/// bcrypt of `s3cret`, as Alertmanager's web configuration wants it.
const PASSWORD: &str = "$2b$04$abcdefghijklmnopqrstuuLZYjhNQAOdpbzt4WxWlUHjv1wsyH5DG";

/// An authority and a certificate for 127.0.0.1 that is good for server and client, each as `NAME-….pem`.
fn certificates(world: &World, name: &str) {
    let write = |file: &str, pem: String| {
        std::fs::write(world.dir.path().join(format!("{name}-{file}.pem")), pem).expect("written");
    };
    let (ca_key, key) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
    let mut ca = CertificateParams::new(Vec::new()).expect("no names");
    ca.distinguished_name.push(rcgen::DnType::CommonName, format!("authority {name}"));
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).expect("signed");
    let mut leaf = CertificateParams::new(Vec::new()).expect("no names");
    leaf.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).expect("signed");
    write("ca", ca_certificate.pem());
    write("cert", leaf.pem());
    write("key", key.serialize_pem());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alertmanager_behind_tls_is_told_by_whom_it_trusts_and_the_others_say_why_not() {
    let Some(world) = World::new().await else { return };
    certificates(&world, "ours");
    certificates(&world, "others");
    let web = world.dir.path().join("web.yml");
    let settings = format!(
        "tls_server_config: {{cert_file: ours-cert.pem, key_file: ours-key.pem, client_ca_file: ours-ca.pem, \
         client_auth_type: RequireAndVerifyClientCert}}\nbasic_auth_users: {{collector: '{PASSWORD}'}}\n"
    );
    std::fs::write(&web, settings).expect("written");
    let alertmanager = world.start_alertmanager(free_port(), &[format!("--web.config.file={}", web.display())]);
    world.says(&[("failing", "order", 1)]);

    let port = alertmanager.port;
    // Before that the first failure would be that nobody listens.
    let listens = async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok();
    world.until("Alertmanager listens", listens).await;
    let start = async |name: &str, tls: &str, password: &str| {
        let entry = format!(
            "[{{scheme: https, tls_config: {{{tls}}}, basic_auth: {{username: collector, password: {password}}}, \
             static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]"
        );
        world.configure(name, QUICK, &entry, "");
        world.launch(name).await
    };
    let ours = "ca_file: ours-ca.pem, cert_file: ours-cert.pem, key_file: ours-key.pem";
    let with_wrong_ca = ours.replace("ours-ca", "others-ca");
    let (wrong_ca, no_certificate, wrong_password, right) = tokio::join!(
        start("wrong-ca", &with_wrong_ca, "s3cret"),
        start("no-certificate", "ca_file: ours-ca.pem", "s3cret"),
        start("wrong-password", ours, "guess"),
        start("right", ours, "s3cret"),
    );
    world.until_told("Failing", (1, 0)).await;

    let url = format!("https://127.0.0.1:{port}");
    let of = |metric: &str, reason: &str| format!("{metric}{{alertmanager=\"{url}\",reason=\"{reason}\"}}");
    let failed = |reason: &str| of("collector_notifications_errors_total", reason);
    let sent = format!("collector_notifications_sent_total{{alertmanager=\"{url}\"}}");
    for (collector, name, reason, why) in [
        (&wrong_ca, "wrong-ca", "connect", "certificate"),
        // TLS 1.3 refuses after the handshake: what is seen of it is one broken connection or another.
        (&no_certificate, "no-certificate", "other", "failed to send"),
        (&wrong_password, "wrong-password", "refused", "401"),
    ] {
        world.until(name, async || world.metric(collector, &failed(reason)).await >= 1.0).await;
        assert_eq!(world.metric(collector, &sent).await, 0.0, "{name} told it all the same");
        let log = std::fs::read_to_string(world.config(name).with_extension("log")).expect("a log");
        let line = log.lines().find(|line| line.contains("failed to send alerts")).unwrap_or_default();
        assert!(line.contains(why), "{name}: {line}");
        assert!(!log.contains("s3cret") && !log.contains("guess"), "{name}: {log}");
    }
    assert!(world.metric(&right, &sent).await >= 1.0);
    assert_eq!(world.told("Failing"), (1, 0));
}
