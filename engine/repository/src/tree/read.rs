//! Trees, read node by node from any source, with every part of a node bounded.
//!
//! Restic's own order and spelling are not demanded here: what another program wrote is read as far
//! as its meaning is clear. Names that lead out of a folder are refused.

use super::{
    ATTRIBUTES_BYTES_MAX, CONTENT_BLOBS_MAX, ExtendedAttribute, NAME_BYTES_MAX, Node, NodeKind,
    TEXT_BYTES_MAX, TreeError, is_file_name,
};
use crate::go_text::unquote;
use crate::id::Id;
use crate::json::JsonReader;
use crate::time::Time;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::io::{self, Read};

/// What holding one attribute costs beside its bytes: counted alike on every machine.
const ATTRIBUTE_BYTES: usize = 64;

/// Reads a tree from its JSON, holding one node at a time.
pub struct TreeReader<R> {
    json: JsonReader<R>,
    state: State,
    is_first_key: bool,
    is_first_node: bool,
    before: Vec<u8>,
    was_sorted: bool,
    scratch: Vec<u8>,
    /// The list of a node that needs it no more.
    spare: Vec<Id>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Keys,
    Nodes,
    Done,
}

impl TreeReader<io::Empty> {
    /// A reader of JSON that is held as a whole: it takes no memory beside it but for one node.
    pub fn held(json: Vec<u8>) -> Self {
        Self::of(JsonReader::held(json))
    }
}

impl<R: Read> TreeReader<R> {
    /// A reader of the JSON `source` gives.
    pub fn new(source: R) -> Self {
        Self::of(JsonReader::new(source))
    }

    fn of(json: JsonReader<R>) -> Self {
        Self {
            json,
            state: State::Start,
            is_first_key: true,
            is_first_node: true,
            before: Vec::new(),
            was_sorted: true,
            scratch: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// Reads the next node into `node`, whose buffers are used again. `false` at the end, to which
    /// the source was then read: if it verifies itself, all nodes can be believed now.
    pub fn next_into(&mut self, node: &mut Node) -> Result<bool, TreeError> {
        loop {
            match self.state {
                State::Start => {
                    self.json.expect(b'{', "an object")?;
                    self.state = State::Keys;
                }
                State::Keys => match self.json.next_key(&mut self.is_first_key, &[b"nodes"])? {
                    Some(0) if !self.json.take_null()? => {
                        self.json.expect(b'[', "a list of nodes")?;
                        self.is_first_node = true;
                        self.state = State::Nodes;
                    }
                    Some(0) => {}
                    Some(_) => self.json.skip()?,
                    None => {
                        self.json.end()?;
                        self.state = State::Done;
                    }
                },
                State::Nodes if self.json.next_element(&mut self.is_first_node)? => {
                    self.node(node)?;
                    self.was_sorted &= self.before.is_empty() || node.name > self.before;
                    self.before.clear();
                    self.before.extend_from_slice(&node.name);
                    return Ok(true);
                }
                State::Nodes => self.state = State::Keys,
                State::Done => return Ok(false),
            }
        }
    }

    /// Whether the nodes read so far came sorted and each once. Trees of other programs may not;
    /// they can be restored, but restic's `check` complains.
    pub fn was_sorted(&self) -> bool {
        self.was_sorted
    }

    fn node(&mut self, node: &mut Node) -> Result<(), TreeError> {
        if let Some(content) = node.content.take() {
            self.spare = content;
        }
        reset(node);
        self.json.expect(b'{', "a node")?;
        let (mut is_first, mut kind) = (true, None);
        while let Some(place) = self.json.next_key(&mut is_first, KEYS)? {
            // Go leaves a field as it is where JSON says null.
            if self.json.take_null()? {
                continue;
            }
            match KEYS.get(place).copied() {
                Some(b"name") => self.name(node)?,
                Some(b"type") => {
                    self.text(64)?;
                    kind = NodeKind::of_name(&self.scratch);
                }
                Some(b"mtime") => node.mtime = self.time(node, "mtime")?,
                Some(b"atime") => node.atime = self.time(node, "atime")?,
                Some(b"ctime") => node.ctime = self.time(node, "ctime")?,
                Some(b"content") => self.content(node)?,
                Some(b"subtree") => node.subtree = Some(self.json.id()?),
                Some(b"linktarget") => {
                    self.text(TEXT_BYTES_MAX)?;
                    // The raw one wins, whichever comes first.
                    if node.link_target.is_empty() {
                        std::mem::swap(&mut node.link_target, &mut self.scratch);
                    }
                }
                Some(b"linktarget_raw") => {
                    self.base64(node, "link target", TEXT_BYTES_MAX)?;
                    std::mem::swap(&mut node.link_target, &mut self.scratch);
                }
                Some(b"extended_attributes") => self.extended_attributes(node)?,
                Some(b"generic_attributes") => {
                    node.generic_attributes.clear();
                    self.json.raw(&mut node.generic_attributes, ATTRIBUTES_BYTES_MAX)?;
                }
                Some(key) => self.scalar(key, node)?,
                None => self.json.skip()?,
            }
        }
        if !is_file_name(&node.name) {
            return Err(TreeError::Name { name: node.name.clone() });
        }
        match kind {
            Some(kind) => node.kind = kind,
            None => return part(node, "type"),
        }
        Ok(())
    }

    fn scalar(&mut self, key: &[u8], node: &mut Node) -> Result<(), TreeError> {
        match key {
            b"mode" => node.mode = self.json.number_u32()?,
            b"uid" => node.uid = self.json.number_u32()?,
            b"gid" => node.gid = self.json.number_u32()?,
            b"user" => node.user = self.utf8(std::mem::take(&mut node.user))?,
            b"group" => node.group = self.utf8(std::mem::take(&mut node.group))?,
            b"error" => node.error = self.utf8(std::mem::take(&mut node.error))?,
            b"inode" => node.inode = self.json.number(u64::MAX)?,
            b"device_id" => node.device_id = self.json.number(u64::MAX)?,
            b"size" => node.size = self.json.number(u64::MAX)?,
            b"links" => node.links = self.json.number(u64::MAX)?,
            b"device" => node.device = self.json.number(u64::MAX)?,
            _ => self.json.skip()?,
        }
        Ok(())
    }

    /// A string into the scratch buffer.
    fn text(&mut self, bytes_max: usize) -> Result<(), TreeError> {
        self.scratch.clear();
        Ok(self.json.string(&mut self.scratch, bytes_max)?)
    }

    fn utf8(&mut self, old: String) -> Result<String, TreeError> {
        let mut bytes = old.into_bytes();
        bytes.clear();
        self.json.string(&mut bytes, TEXT_BYTES_MAX)?;
        // The reader saw to it that it is UTF-8.
        Ok(String::from_utf8(bytes).unwrap_or_default())
    }

    fn name(&mut self, node: &mut Node) -> Result<(), TreeError> {
        // A byte is four when quoted.
        self.text(4 * NAME_BYTES_MAX)?;
        node.name.clear();
        match unquote(&self.scratch, &mut node.name) {
            Some(()) => Ok(()),
            None => Err(TreeError::Name { name: self.scratch.clone() }),
        }
    }

    fn time(&mut self, node: &Node, name: &'static str) -> Result<Time, TreeError> {
        self.text(64)?;
        match Time::from_text(&self.scratch) {
            Some(time) => Ok(time),
            None => part(node, name),
        }
    }

    fn content(&mut self, node: &mut Node) -> Result<(), TreeError> {
        self.json.expect(b'[', "a list of ids")?;
        let mut content = std::mem::take(&mut self.spare);
        content.clear();
        let mut is_first = true;
        while self.json.next_element(&mut is_first)? {
            if content.len() == CONTENT_BLOBS_MAX {
                return part(node, "content: too many blobs");
            }
            content.push(self.json.id()?);
        }
        node.content = Some(content);
        Ok(())
    }

    /// Base64 into the scratch buffer.
    fn base64(
        &mut self,
        node: &Node,
        what: &'static str,
        bytes_max: usize,
    ) -> Result<(), TreeError> {
        self.text(bytes_max.div_ceil(3) * 4)?;
        match BASE64.decode(&self.scratch) {
            Ok(bytes) => {
                self.scratch = bytes;
                Ok(())
            }
            Err(_) => part(node, what),
        }
    }

    fn extended_attributes(&mut self, node: &mut Node) -> Result<(), TreeError> {
        self.json.expect(b'[', "a list of attributes")?;
        node.extended_attributes.clear();
        let (mut is_first, mut bytes) = (true, 0);
        while self.json.next_element(&mut is_first)? {
            let mut attribute = ExtendedAttribute::default();
            self.json.expect(b'{', "an attribute")?;
            let mut is_first_key = true;
            while let Some(place) = self.json.next_key(&mut is_first_key, &[b"name", b"value"])? {
                match place {
                    _ if self.json.take_null()? => {}
                    0 => {
                        self.text(TEXT_BYTES_MAX)?;
                        attribute.name = self.scratch.clone();
                    }
                    1 => {
                        self.base64(node, "extended attribute", ATTRIBUTES_BYTES_MAX)?;
                        attribute.value = self.scratch.clone();
                    }
                    _ => self.json.skip()?,
                }
            }
            bytes += attribute.name.len() + attribute.value.len() + ATTRIBUTE_BYTES;
            if bytes > ATTRIBUTES_BYTES_MAX {
                return part(node, "extended attributes: too many");
            }
            node.extended_attributes.push(attribute);
        }
        Ok(())
    }
}

const KEYS: &[&[u8]] = &[
    b"name",
    b"type",
    b"mode",
    b"mtime",
    b"atime",
    b"ctime",
    b"uid",
    b"gid",
    b"user",
    b"group",
    b"inode",
    b"device_id",
    b"size",
    b"links",
    b"linktarget",
    b"linktarget_raw",
    b"extended_attributes",
    b"generic_attributes",
    b"device",
    b"content",
    b"subtree",
    b"error",
];

fn part<T>(node: &Node, part: &'static str) -> Result<T, TreeError> {
    Err(TreeError::Part { name: node.name.clone(), part })
}

/// Empties a node, keeping its buffers.
fn reset(node: &mut Node) {
    let mut old = std::mem::replace(node, Node::new(Vec::new(), NodeKind::Irregular));
    old.name.clear();
    old.user.clear();
    old.group.clear();
    old.link_target.clear();
    old.extended_attributes.clear();
    old.generic_attributes.clear();
    node.name = old.name;
    node.user = old.user;
    node.group = old.group;
    node.link_target = old.link_target;
    node.extended_attributes = old.extended_attributes;
    node.generic_attributes = old.generic_attributes;
}

impl<R: Read> Iterator for TreeReader<R> {
    type Item = Result<Node, TreeError>;

    /// After an error there is nothing more.
    fn next(&mut self) -> Option<Self::Item> {
        let mut node = Node::new(Vec::new(), NodeKind::Irregular);
        match self.next_into(&mut node) {
            Ok(true) => Some(Ok(node)),
            Ok(false) => None,
            Err(error) => {
                self.state = State::Done;
                Some(Err(error))
            }
        }
    }
}
