//! The depot: shelves of packages, the Package Center protocol, publishing
