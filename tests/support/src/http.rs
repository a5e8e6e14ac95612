//! As much of HTTP as Package Center needs: one request, one bounded answer, no encryption.

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::time::Duration;

/// A server that takes longer for one answer is as good as gone.
const ANSWER_SECONDS_MAX: u64 = 120;

/// A server's answer.
#[derive(Debug)]
pub struct Answer {
    /// 200 and the like.
    pub status: u16,
    /// The `Content-Type`, empty when there is none.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
}

/// What to send.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// `http://host:port/path?query`.
    pub url: &'a str,
    /// Who asks.
    pub user_agent: &'a str,
    /// The fields of a form: then it is a POST.
    pub form: Option<&'a [(&'a str, String)]>,
    /// A longer answer is an error.
    pub answer_bytes_max: usize,
}

/// Sends a request and reads the answer; the error is one line.
pub fn ask(request: &Request<'_>) -> Result<Answer, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|cause| cause.to_string())?;
    runtime.block_on(async {
        let limit = Duration::from_secs(ANSWER_SECONDS_MAX);
        match tokio::time::timeout(limit, exchange(request)).await {
            Ok(outcome) => outcome.map_err(|cause| in_one_line(&*cause)),
            Err(_) => Err(format!("no answer within {ANSWER_SECONDS_MAX} s")),
        }
    })
}

type Failure = Box<dyn Error + Send + Sync>;

async fn exchange(request: &Request<'_>) -> Result<Answer, Failure> {
    let url: hyper::Uri = request.url.parse()?;
    if url.scheme_str() != Some("http") {
        return Err("a NAS in a folder speaks plain http only".into());
    }
    let host = url.host().ok_or("the URL names no host")?;
    let port = url.port_u16().unwrap_or(80);
    let stream = tokio::net::TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let message = hyper::Request::builder()
        .method(if request.form.is_some() { "POST" } else { "GET" })
        .uri(if path.is_empty() { "/" } else { path })
        .header("Host", url.authority().map_or(host, |authority| authority.as_str()))
        .header("User-Agent", request.user_agent)
        .header("Accept", "*/*");
    let message = match request.form {
        Some(form) => message
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(Full::new(Bytes::from(form_text(form))))?,
        None => message.body(Full::new(Bytes::new()))?,
    };
    let answer = sender.send_request(message).await?;
    let status = answer.status().as_u16();
    let content_type = answer.headers().get("content-type");
    let content_type = content_type.map(|value| String::from_utf8_lossy(value.as_bytes()).into());
    let body = Limited::new(answer.into_body(), request.answer_bytes_max).collect().await?;
    let body = body.to_bytes().to_vec();
    Ok(Answer { status, content_type: content_type.unwrap_or_default(), body })
}

/// The fields as `application/x-www-form-urlencoded`.
pub fn form_text(fields: &[(&str, String)]) -> String {
    let encoded = |text: &str| {
        let mut encoded = String::new();
        for byte in text.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => {
                    encoded.push(char::from(byte));
                }
                b' ' => encoded.push('+'),
                other => encoded.push_str(&format!("%{other:02X}")),
            }
        }
        encoded
    };
    let pairs: Vec<String> =
        fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    pairs.join("&")
}

fn in_one_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_encoded_as_browsers_do() {
        let fields = [("unique", "synology_apollolake_918+".to_owned()), ("b", "é/ ".to_owned())];
        assert_eq!(form_text(&fields), "unique=synology_apollolake_918%2B&b=%C3%A9%2F+");
    }

    #[test]
    fn nobody_listening_is_a_sentence() {
        let request = Request {
            url: "http://127.0.0.1:1/",
            user_agent: "test",
            form: None,
            answer_bytes_max: 10,
        };
        assert!(ask(&request).unwrap_err().contains("refused"));
    }
}
