//! The page's files, as they are in this program, and the headers every answer has.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, header};

/// What a browser may do with the page: use its own files and ask where it came from, and no more.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Path, type and bytes of each file.
const FILES: [(&str, &str, &[u8]); 4] = [
    ("", "text/html; charset=utf-8", include_bytes!("../page/index.html")),
    ("console.css", "text/css; charset=utf-8", include_bytes!("../page/console.css")),
    ("console.js", "text/javascript; charset=utf-8", include_bytes!("../page/console.js")),
    ("icon.png", "image/png", include_bytes!("../page/icon.png")),
];

/// The file of that path. DSM may put one slash more before it than there should be.
pub fn file(path: &str) -> Option<Response<Body>> {
    let name = path.trim_start_matches('/');
    let (_, kind, bytes) = FILES.iter().find(|(file, ..)| *file == name)?;
    let mut response = Response::new(Body::from(*bytes));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    Some(response)
}

/// Adds what every answer says. Nothing is kept: a new version's page must not meet an old script.
pub fn add_headers(response: &mut Response<Body>) {
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str) -> String {
        let (.., bytes) = FILES.iter().find(|(file, ..)| *file == name).unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn the_page_needs_nothing_the_policy_forbids() {
        let page = text("");
        for forbidden in ["<style", "style=", "onclick", "onload", "javascript:", "http:", "https:"]
        {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        assert_eq!(page.matches("<script").count(), 1);
        assert!(page.contains(r#"<script src="console.js" defer></script>"#));
    }

    #[test]
    fn what_the_daemon_tells_is_only_ever_text() {
        let script = text("console.js");
        for forbidden in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
        {
            assert!(!script.contains(forbidden), "{forbidden}");
        }
        assert!(script.contains("textContent"));
    }

    #[test]
    fn every_file_is_found_by_its_name_and_nothing_else_is() {
        for path in ["/", "//", "/console.css", "/console.js", "/icon.png"] {
            assert!(file(path).is_some(), "{path}");
        }
        for path in ["/v1/status", "/../console.js", "/console.js/", "/index"] {
            assert!(file(path).is_none(), "{path}");
        }
    }
}
