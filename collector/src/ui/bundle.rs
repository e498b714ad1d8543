//! All files of one build: hashed together, each with its type and, where it pays, compressed.

use std::collections::BTreeMap;
use std::io::Write;

use axum::http::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use rust_embed::{EmbeddedFile, RustEmbed};
use sha2::{Digest, Sha256};

#[derive(RustEmbed)]
#[folder = "$CARGO_MANIFEST_DIR/ui/app"]
#[prefix = "app/"]
struct App;

#[derive(RustEmbed)]
#[folder = "$CARGO_MANIFEST_DIR/ui/styles"]
#[prefix = "styles/"]
struct Styles;

#[derive(RustEmbed)]
#[folder = "$CARGO_MANIFEST_DIR/ui/vendor"]
#[prefix = "vendor/"]
struct Vendor;

/// What alerts link to.
#[derive(RustEmbed)]
#[folder = "$CARGO_MANIFEST_DIR/../docs/operations"]
struct Runbooks;

const SHELL: &str = include_str!("../../ui/index.html");

/// What modules import by name, and the file it is.
const IMPORTS: [(&str, &str); 6] = [
    ("preact", "vendor/preact.mjs"),
    ("preact/hooks", "vendor/preact-hooks.mjs"),
    ("@preact/signals-core", "vendor/signals-core.mjs"),
    ("@preact/signals", "vendor/signals.mjs"),
    ("htm", "vendor/htm.mjs"),
    ("uplot", "vendor/uplot.mjs"),
];

/// Below this size a compressed file saves less than its header costs.
const GZIP_MIN_BYTES: usize = 512;
/// Enough of the hash to tell builds apart.
const VERSION_LEN: usize = 16;

pub(super) struct Bundle {
    pub version: String,
    pub files: BTreeMap<String, File>,
    pub page: Page,
}

/// One file as it is served.
#[derive(Clone)]
pub(super) struct File {
    pub bytes: Bytes,
    pub gzipped: Option<Bytes>,
    pub content_type: &'static str,
}

/// The document that every page starts from.
pub(super) struct Page {
    pub html: Bytes,
    pub policy: HeaderValue,
    pub etag: HeaderValue,
}

impl Bundle {
    pub(super) fn load() -> Bundle {
        let mut hash = Sha256::new();
        hash.update(SHELL);
        let mut files = BTreeMap::new();
        for path in App::iter().chain(Styles::iter()).chain(Vendor::iter()) {
            let Some(mut file) = read(&path) else { continue };
            hash.update(path.as_bytes());
            hash.update(&file.bytes);
            file.gzipped = gzipped(&file);
            files.insert(path.into_owned(), file);
        }
        let version = hex::encode(hash.finalize())[..VERSION_LEN].to_owned();
        let page = Page::new(&version);
        Bundle { version, files, page }
    }
}

/// The runbook of an alert, in Markdown.
pub(super) fn runbook(name: &str) -> Option<String> {
    let simple = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let file = simple.then(|| Runbooks::get(&format!("{name}.md")))??;
    Some(String::from_utf8_lossy(&file.data).into_owned())
}

/// One file, uncompressed; from disk in debug builds.
pub(super) fn read(path: &str) -> Option<File> {
    let EmbeddedFile { data, .. } = App::get(path).or_else(|| Styles::get(path)).or_else(|| Vendor::get(path))?;
    let bytes = match data {
        std::borrow::Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        std::borrow::Cow::Owned(bytes) => Bytes::from(bytes),
    };
    Some(File { bytes, gzipped: None, content_type: content_type(path) })
}

impl Page {
    fn new(version: &str) -> Page {
        let assets = format!("./assets/{version}");
        let imports: BTreeMap<&str, String> =
            IMPORTS.into_iter().map(|(name, file)| (name, format!("{assets}/{file}"))).collect();
        let import_map = serde_json::json!({ "imports": imports }).to_string();
        let html = SHELL.replace("{{assets}}", &assets).replace("{{importmap}}", &import_map);
        let allowed = STANDARD.encode(Sha256::digest(&import_map));
        let policy = format!(
            "default-src 'none'; script-src 'self' 'sha256-{allowed}'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
        );
        let ascii = "a hash and fixed text are visible ASCII";
        Page {
            html: Bytes::from(html),
            policy: HeaderValue::from_str(&policy).expect(ascii),
            etag: HeaderValue::from_str(&format!("\"{version}\"")).expect(ascii),
        }
    }
}

fn gzipped(file: &File) -> Option<Bytes> {
    if file.bytes.len() < GZIP_MIN_BYTES {
        return None;
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&file.bytes).expect("writing to memory does not fail");
    Some(Bytes::from(encoder.finish().expect("writing to memory does not fail")))
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json") => "application/json",
        _ => "text/plain; charset=utf-8",
    }
}
