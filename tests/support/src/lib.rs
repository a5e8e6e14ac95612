//! A NAS in a folder: Package Center, synopkg and the DSM that runs package scripts
