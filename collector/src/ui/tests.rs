use axum::body::{Body, to_bytes};
use axum::http::Request;
use base64::Engine as _;
use regex::Regex;
use sha2::{Digest, Sha256};
use tower::ServiceExt;

use super::*;

async fn get_from(router: &Router, path: &str, headers: &[(HeaderName, &str)]) -> (StatusCode, HeaderMap, Vec<u8>) {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    let response = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    (status, headers, to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec())
}

fn built() -> (Router, Arc<Bundle>) {
    let bundle = Arc::new(Bundle::load());
    (router_over(Files::Built(bundle.clone())), bundle)
}

#[tokio::test]
async fn every_page_is_the_shell_with_a_policy_that_names_its_import_map() {
    let (router, _) = built();
    for page in PAGES {
        let (status, headers, body) = get_from(&router, page, &[]).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        let html = String::from_utf8(body).unwrap();
        let (_, rest) = html.split_once(r#"<script type="importmap">"#).unwrap();
        let (import_map, _) = rest.split_once("</script>").unwrap();
        let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(import_map));
        let policy = headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains(&format!("script-src 'self' 'sha256-{hash}';")), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(!html.contains("{{"), "a place was left unfilled");
    }
}

#[tokio::test]
async fn everything_that_the_shell_names_is_served() {
    let (router, bundle) = built();
    let html = String::from_utf8(bundle.page.html.to_vec()).unwrap();
    let addresses = Regex::new(r#""\.(/assets/[^"]+)""#).unwrap();
    let named: Vec<&str> = addresses.captures_iter(&html).map(|found| found.get(1).unwrap().as_str()).collect();
    assert!(named.len() > 10, "{named:?}");
    for address in named {
        let (status, headers, _) = get_from(&router, address, &[]).await;
        assert_eq!(status, StatusCode::OK, "{address}");
        assert_eq!(headers[CACHE_CONTROL], CACHE_FOREVER, "{address}");
    }
}

#[test]
fn every_import_of_a_module_leads_to_a_file() {
    let bundle = Bundle::load();
    let imports = Regex::new(r"(?m)(?:^import (?:[^';]* from )?|import\()'([^']+)'").unwrap();
    let html = String::from_utf8(bundle.page.html.to_vec()).unwrap();
    for (path, file) in bundle.files.iter().filter(|(path, _)| path.starts_with("app/") && path.ends_with(".js")) {
        let text = std::str::from_utf8(&file.bytes).unwrap();
        for found in imports.captures_iter(text) {
            let name = &found[1];
            if !name.starts_with('.') {
                assert!(html.contains(&format!("\"{name}\":")), "{path} imports `{name}`, which the import map lacks");
                continue;
            }
            let base = url::Url::parse(&format!("http://ui/{path}")).unwrap();
            let target = base.join(name).unwrap();
            assert!(bundle.files.contains_key(target.path().trim_start_matches('/')), "{path} imports {name}");
        }
    }
}

#[test]
fn our_files_name_no_other_host() {
    let addresses = Regex::new(r#"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}"#).unwrap();
    for (path, file) in Bundle::load().files.iter().filter(|(path, _)| !path.starts_with("vendor/")) {
        let text = std::str::from_utf8(&file.bytes).unwrap().replace("http://www.w3.org/2000/svg", "");
        assert_eq!(addresses.find(&text).map(|found| found.as_str()), None, "{path}");
    }
}

#[test]
fn vendored_files_are_those_of_the_manifest() {
    let bundle = Bundle::load();
    let manifest: Vec<serde_json::Value> = serde_json::from_slice(&bundle.files["vendor/vendor.json"].bytes).unwrap();
    for entry in &manifest {
        let name = entry["file"].as_str().unwrap();
        let hash = hex::encode(Sha256::digest(&bundle.files[&format!("vendor/{name}")].bytes));
        assert_eq!(entry["sha256"], hash, "{name} was edited");
    }
    let vendored = bundle.files.keys().filter(|path| path.starts_with("vendor/")).count();
    assert_eq!(vendored, manifest.len() + 2, "the manifest, the licences and nothing else beside them");
}

#[tokio::test]
async fn a_file_of_another_build_is_refused() {
    let (router, _) = built();
    let (status, _, _) = get_from(&router, "/assets/0123456789abcdef/app/main.js", &[]).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn compressed_is_sent_to_those_who_take_it() {
    let (router, bundle) = built();
    let address = format!("/assets/{}/vendor/uplot.mjs", bundle.version);
    let (_, plain_headers, plain) = get_from(&router, &address, &[(ACCEPT_ENCODING, "br, gzip;q=0")]).await;
    let (_, headers, gzipped) = get_from(&router, &address, &[(ACCEPT_ENCODING, "br, gzip")]).await;
    assert_eq!(plain_headers.get(CONTENT_ENCODING), None);
    assert_eq!(headers[CONTENT_ENCODING], "gzip");
    assert!(gzipped.len() * 2 < plain.len(), "{} of {}", gzipped.len(), plain.len());
    let mut unpacked = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(gzipped.as_slice()), &mut unpacked).unwrap();
    assert_eq!(unpacked, plain);
}

#[tokio::test]
async fn an_unchanged_page_is_not_sent_again() {
    let (router, bundle) = built();
    let (status, _, body) = get_from(&router, "/", &[(IF_NONE_MATCH, bundle.page.etag.to_str().unwrap())]).await;
    assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0));
}

#[tokio::test]
async fn every_alert_of_ours_has_a_runbook_at_the_address_that_it_carries() {
    let (router, _) = built();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../alertmanager-rules");
    let links = Regex::new(r"externalURL \}\}(/runbooks/\w+)").unwrap();
    let mut seen = 0;
    for file in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        for found in links.captures_iter(&text) {
            let (status, headers, _) = get_from(&router, &found[1], &[]).await;
            assert_eq!(status, StatusCode::TEMPORARY_REDIRECT, "{}", &found[1]);
            let name = found[1].trim_start_matches("/runbooks/");
            assert_eq!(headers["location"].to_str().unwrap(), format!("../runbook?name={name}"));
            assert!(runbook(name).unwrap().starts_with(&format!("# {name}")));
            seen += 1;
        }
    }
    assert!(seen >= 7, "only {seen} links found");
    let (status, _, _) = get_from(&router, "/runbooks/..%2f..%2fREADME", &[]).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_path_does_not_leave_the_folder() {
    for router in [built().0, router_over(Files::Disk)] {
        for path in ["/assets/x/app/..%2f..%2fCargo.toml", "/assets/x/app/../tools/package.json"] {
            let (status, _, _) = get_from(&router, path, &[]).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        }
    }
}
