//! Every map, constant and reason that kernel and user space share.
