//! `proxy_url`, `no_proxy`, `proxy_from_environment`: which requests go by which proxy, as Go's programs decide it.

use std::fmt;
use std::net::IpAddr;

use reqwest::{ClientBuilder, Url};
use serde::{Deserialize, Serialize};
use service::config::Env;

/// The address of a proxy; a password in it does not print.
#[derive(Clone, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProxyUrl(Url);

impl TryFrom<String> for ProxyUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // The text is not repeated: it may hold a password.
        let url = Url::parse(&text).map_err(|error| format!("the proxy's address cannot be read: {error}"))?;
        match url.scheme() {
            "http" | "https" if url.has_host() => Ok(ProxyUrl(url)),
            other => Err(format!("a proxy is reached by http or https, not by {other:?}")),
        }
    }
}

impl From<ProxyUrl> for String {
    fn from(ProxyUrl(mut url): ProxyUrl) -> Self {
        if url.password().is_some() {
            // Refused only for URLs without a host, which are none of ours.
            let _ = url.set_password(Some("<secret>"));
        }
        url.into()
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from(self.clone()))
    }
}

/// What a job says of proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Proxies {
    pub url: Option<ProxyUrl>,
    /// Hosts that are reached without: names with what is below them, addresses, networks, each perhaps with a port; `*`.
    pub not_for: Option<String>,
    pub from_environment: bool,
}

/// What it comes to.
#[derive(Clone, Debug, Default)]
struct Rules {
    http: Option<Url>,
    https: Option<Url>,
    /// None: for every host, this one included.
    not_for: Option<String>,
}

impl Proxies {
    pub fn new(url: Option<&ProxyUrl>, not_for: Option<&str>, from_environment: bool) -> Self {
        Proxies { url: url.cloned(), not_for: not_for.map(str::to_owned), from_environment }
    }

    /// # Errors
    /// Keys that contradict each other.
    pub fn check(&self) -> Result<(), String> {
        match (&self.url, &self.not_for, self.from_environment) {
            (Some(_), _, true) => Err("proxy_url and proxy_from_environment exclude each other".to_owned()),
            (None, Some(_), true) => Err("no_proxy and proxy_from_environment exclude each other".to_owned()),
            (None, Some(_), false) => Err("no_proxy needs proxy_url beside it".to_owned()),
            _ => Ok(()),
        }
    }

    pub fn is_default(&self) -> bool {
        *self == Proxies::default()
    }

    /// Without any of the keys requests go directly, whatever the environment says: as in Prometheus.
    ///
    /// # Errors
    /// A variable of the environment that names no proxy.
    pub fn apply(&self, client: ClientBuilder, env: &dyn Env) -> anyhow::Result<ClientBuilder> {
        let rules = self.rules(env).map_err(anyhow::Error::msg)?;
        if rules.http.is_none() && rules.https.is_none() {
            return Ok(client.no_proxy());
        }
        Ok(client.proxy(reqwest::Proxy::custom(move |url| rules.of(url).cloned())))
    }

    fn rules(&self, env: &dyn Env) -> Result<Rules, String> {
        if self.from_environment {
            let not_for = variable(env, "no_proxy").map(|(_, list)| list).unwrap_or_default();
            let [http, https] = ["http_proxy", "https_proxy"].map(|key| from_environment(env, key));
            return Ok(Rules { http: http?, https: https?, not_for: Some(not_for) });
        }
        let url = self.url.as_ref().map(|url| url.0.clone());
        Ok(Rules { http: url.clone(), https: url, not_for: self.not_for.clone() })
    }
}

/// In capitals or not, as it is set.
fn variable(env: &dyn Env, key: &str) -> Option<(String, String)> {
    let set = |key: String| env.get(&key).filter(|value| !value.is_empty()).map(|value| (key, value));
    set(key.to_ascii_uppercase()).or_else(|| set(key.to_owned()))
}

fn from_environment(env: &dyn Env, key: &str) -> Result<Option<Url>, String> {
    let Some((key, text)) = variable(env, key) else { return Ok(None) };
    // `proxy:3128` is written there, too.
    let whole = if text.contains("://") { text } else { format!("http://{text}") };
    ProxyUrl::try_from(whole).map(|url| Some(url.0)).map_err(|why| format!("environment variable {key}: {why}"))
}

impl Rules {
    fn of(&self, url: &Url) -> Option<&Url> {
        let proxy = if url.scheme() == "https" { &self.https } else { &self.http };
        proxy.as_ref().filter(|_| self.not_for.as_ref().is_none_or(|list| !is_listed(list, url)))
    }
}

/// Whether `no_proxy` has this host; this machine itself it always has.
fn is_listed(list: &str, url: &Url) -> bool {
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return false };
    let host = host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
    let address = host.parse::<IpAddr>().ok();
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    let mut entries = list.split(',').map(|entry| entry.trim().to_ascii_lowercase()).filter(|entry| !entry.is_empty());
    entries.any(|entry| {
        if entry == "*" {
            return true;
        }
        if let Some((network, bits)) = entry.split_once('/') {
            return address.is_some_and(|address| is_within(address, network, bits));
        }
        let (name, of_port) = split_port(&entry);
        if of_port.is_some_and(|of_port| of_port != port) {
            return false;
        }
        match (name.trim_matches(['[', ']']).parse::<IpAddr>(), address) {
            (Ok(listed), Some(address)) => listed == address,
            (Ok(_), None) | (Err(_), Some(_)) => false,
            (Err(_), None) => is_below(&host, name),
        }
    })
}

/// `example.com` is the name and what is below it, `.example.com` what is below it alone; so is `*.example.com`.
fn is_below(host: &str, listed: &str) -> bool {
    let listed = listed.strip_prefix('*').unwrap_or(listed);
    match listed.strip_prefix('.') {
        Some(_) => host.ends_with(listed),
        None => host.strip_suffix(listed).is_some_and(|before| before.is_empty() || before.ends_with('.')),
    }
}

fn split_port(entry: &str) -> (&str, Option<u16>) {
    // `::1` has colons and no port, `[::1]:80` one.
    let has_port = entry.matches(':').count() == 1 || entry.contains("]:");
    match entry.rsplit_once(':').filter(|_| has_port) {
        Some((name, port)) => (name, port.parse().ok()),
        None => (entry, None),
    }
}

fn is_within(address: IpAddr, network: &str, bits: &str) -> bool {
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) if bits <= 32 => {
            let shift = |ip: std::net::Ipv4Addr| u64::from(ip.to_bits()) >> (32 - bits);
            shift(address) == shift(network)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) if bits <= 128 => {
            let shift = |ip: std::net::Ipv6Addr| ip.to_bits().checked_shr(128 - bits).unwrap_or(0);
            shift(address) == shift(network)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn proxies(url: &str, not_for: Option<&str>) -> Proxies {
        let url = ProxyUrl::try_from(url.to_owned()).expect("a proxy");
        Proxies { url: Some(url), not_for: not_for.map(str::to_owned), from_environment: false }
    }

    fn goes_by(rules: &Rules, target: &str) -> Option<String> {
        rules.of(&Url::parse(target).expect("a URL")).map(ToString::to_string)
    }

    #[test]
    fn hosts_of_no_proxy_are_reached_directly() {
        let list =
            " example.com,.inner.test:8080 , *.wild.test,10.0.0.0/8,192.0.2.7,[2001:db8::1]:9100,2001:db8:1::/48";
        let rules = proxies("http://proxy:3128", Some(list)).rules(&HashMap::new()).expect("proxies");
        for direct in [
            "http://example.com/",
            "http://a.EXAMPLE.com:9100/",
            "http://a.inner.test:8080/",
            "http://a.wild.test/",
            "http://10.200.3.4:9464/metrics",
            "https://192.0.2.7/",
            "http://[2001:db8::1]:9100/",
            "http://[2001:db8:1:2::3]/",
            "http://localhost:9090/",
            "http://127.0.0.1/",
            "http://[::1]/",
        ] {
            assert_eq!(goes_by(&rules, direct), None, "{direct}");
        }
        for by_proxy in [
            "http://notexample.com/",
            "http://example.com.org/",
            "http://a.inner.test/",
            "http://inner.test:8080/",
            "http://wild.test/",
            "http://11.0.0.1/",
            "http://192.0.2.70/",
            "http://[2001:db8::1]:9101/",
            "http://[2001:db8:2::3]/",
        ] {
            assert_eq!(goes_by(&rules, by_proxy).as_deref(), Some("http://proxy:3128/"), "{by_proxy}");
        }
        let all = proxies("http://proxy:3128", Some("*")).rules(&HashMap::new()).expect("proxies");
        assert_eq!(goes_by(&all, "http://anything/"), None);
        // Without no_proxy the proxy is for every host.
        let none = proxies("http://proxy:3128", None).rules(&HashMap::new()).expect("proxies");
        assert_eq!(goes_by(&none, "http://localhost/").as_deref(), Some("http://proxy:3128/"));
    }

    #[test]
    fn the_environment_is_asked_only_when_that_was_asked_for() {
        let env = HashMap::from([
            ("HTTP_PROXY", "plain:3128"),
            ("https_proxy", "https://u:p@tls.example"),
            ("NO_PROXY", "inner.test"),
        ]);
        let asked = Proxies { from_environment: true, ..Proxies::default() }.rules(&env).expect("proxies");
        assert_eq!(goes_by(&asked, "http://a/").as_deref(), Some("http://plain:3128/"));
        assert_eq!(goes_by(&asked, "https://a/").as_deref(), Some("https://u:p@tls.example/"));
        assert_eq!(goes_by(&asked, "http://x.inner.test/"), None);
        assert_eq!(goes_by(&asked, "http://localhost/"), None);
        let socks = HashMap::from([("https_proxy", "socks5://a:hunter2@b")]);
        let error = Proxies { from_environment: true, ..Proxies::default() }.rules(&socks).expect_err("no such proxy");
        assert_eq!(error, "environment variable https_proxy: a proxy is reached by http or https, not by \"socks5\"");
        assert_eq!(goes_by(&Proxies::default().rules(&env).expect("none"), "http://a/"), None);
    }

    #[test]
    fn passwords_do_not_print() {
        let proxy = proxies("http://user:hunter2@proxy:3128", None);
        let printed = format!("{proxy:?} {}", String::from(proxy.url.clone().expect("there")));
        assert!(!printed.contains("hunter2") && printed.contains("user"), "{printed}");
        let error = ProxyUrl::try_from("socks5://user:hunter2@proxy".to_owned()).expect_err("no HTTP proxy");
        assert_eq!(error, "a proxy is reached by http or https, not by \"socks5\"");
        let error = ProxyUrl::try_from("http://user:hunter2@".to_owned()).expect_err("no host");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
