//! Trees, written node by node, byte for byte as restic would write them.

use super::{Node, NodeKind, TreeError, is_file_name};
use crate::go_text::{append_name, append_string};
use crate::id::Id;
use crate::index::append_number;
use crate::time::Time;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

/// Writes a tree into a buffer the caller may empty whenever it likes.
#[derive(Debug, Clone, Default)]
pub struct TreeWriter {
    before: Vec<u8>,
    nodes: u64,
}

impl TreeWriter {
    /// Starts a tree at the end of `out`.
    pub fn new(out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(b"{\"nodes\":[");
        Self::default()
    }

    /// Appends the next node. On an error nothing was appended.
    pub fn push(&mut self, node: &Node, out: &mut Vec<u8>) -> Result<(), TreeError> {
        if !is_file_name(&node.name) {
            return Err(TreeError::Name { name: node.name.clone() });
        }
        if self.nodes > 0 && node.name <= self.before {
            let (before, name) = (self.before.clone(), node.name.clone());
            return Err(TreeError::Order { before, name });
        }
        if node.kind == NodeKind::File && node.content.is_none() {
            return Err(TreeError::Part { name: node.name.clone(), part: "content" });
        }
        if self.nodes > 0 {
            out.push(b',');
        }
        append_node(node, out);
        self.nodes += 1;
        self.before.clear();
        self.before.extend_from_slice(&node.name);
        Ok(())
    }

    /// How many nodes were written.
    pub fn nodes(&self) -> u64 {
        self.nodes
    }

    /// Ends the tree.
    pub fn finish(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"]}\n");
    }
}

/// The order of the fields is part of the format.
fn append_node(node: &Node, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"name\":");
    append_name(&node.name, out);
    out.extend_from_slice(b",\"type\":\"");
    out.extend_from_slice(node.kind.name().as_bytes());
    out.push(b'"');
    number_unless_zero(b",\"mode\":", u64::from(node.mode), out);
    append_times(node, out);
    out.extend_from_slice(b",\"uid\":");
    append_number(u64::from(node.uid), out);
    out.extend_from_slice(b",\"gid\":");
    append_number(u64::from(node.gid), out);
    text_unless_empty(b",\"user\":", node.user.as_bytes(), out);
    text_unless_empty(b",\"group\":", node.group.as_bytes(), out);
    number_unless_zero(b",\"inode\":", node.inode, out);
    number_unless_zero(b",\"device_id\":", node.device_id, out);
    number_unless_zero(b",\"size\":", node.size, out);
    number_unless_zero(b",\"links\":", node.links, out);
    append_link_target(&node.link_target, out);
    append_attributes(node, out);
    number_unless_zero(b",\"device\":", node.device, out);
    append_content(node.content.as_deref(), out);
    if let Some(subtree) = &node.subtree {
        out.extend_from_slice(b",\"subtree\":");
        append_id(subtree, out);
    }
    text_unless_empty(b",\"error\":", node.error.as_bytes(), out);
    out.push(b'}');
}

fn number_unless_zero(key: &[u8], number: u64, out: &mut Vec<u8>) {
    if number != 0 {
        out.extend_from_slice(key);
        append_number(number, out);
    }
}

fn text_unless_empty(key: &[u8], text: &[u8], out: &mut Vec<u8>) {
    if !text.is_empty() {
        out.extend_from_slice(key);
        append_string(text, out);
    }
}

fn append_id(id: &Id, out: &mut Vec<u8>) {
    out.push(b'"');
    id.append_text(out);
    out.push(b'"');
}

fn append_times(node: &Node, out: &mut Vec<u8>) {
    let mut append = |key: &[u8], time: &Time| {
        out.extend_from_slice(key);
        time.append_text(out);
        out.push(b'"');
    };
    append(b",\"mtime\":\"", &node.mtime);
    append(b",\"atime\":\"", &node.atime);
    append(b",\"ctime\":\"", &node.ctime);
}

/// A target that is not UTF-8 loses bytes in `linktarget`; they are kept in `linktarget_raw`.
fn append_link_target(target: &[u8], out: &mut Vec<u8>) {
    text_unless_empty(b",\"linktarget\":", target, out);
    if std::str::from_utf8(target).is_err() {
        out.extend_from_slice(b",\"linktarget_raw\":");
        append_base64(target, out);
    }
}

fn append_base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    // Three bytes make four: pieces of a multiple of three join without padding.
    let mut text = [0; 4096];
    for piece in bytes.chunks(3072) {
        let length = BASE64.encode_slice(piece, &mut text).unwrap_or(0);
        out.extend_from_slice(&text[..length]);
    }
    out.push(b'"');
}

fn append_attributes(node: &Node, out: &mut Vec<u8>) {
    for (place, attribute) in node.extended_attributes.iter().enumerate() {
        let start: &[u8] =
            if place == 0 { b",\"extended_attributes\":[{\"name\":" } else { b",{\"name\":" };
        out.extend_from_slice(start);
        append_string(&attribute.name, out);
        out.extend_from_slice(b",\"value\":");
        append_base64(&attribute.value, out);
        out.push(b'}');
    }
    if !node.extended_attributes.is_empty() {
        out.push(b']');
    }
    if !node.generic_attributes.is_empty() {
        out.extend_from_slice(b",\"generic_attributes\":");
        out.extend_from_slice(&node.generic_attributes);
    }
}

fn append_content(content: Option<&[Id]>, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"content\":");
    let Some(content) = content else { return out.extend_from_slice(b"null") };
    out.push(b'[');
    for (place, id) in content.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        append_id(id, out);
    }
    out.push(b']');
}
