//! Hash tables of what is looked up for each packet.
//!
//! Their keys are short numbers, for which SipHash takes ten times as long as all else in a look-up. Strangers may choose the
//! keys, so the hasher is seeded anew for each process and each table: nobody outside sees a hash, and how many keys there are
//! is bounded wherever strangers can add some.

use foldhash::fast::RandomState;

/// A hash map with a quick hasher that is seeded.
pub type HashMap<K, V> = std::collections::HashMap<K, V, RandomState>;
/// The same as a set.
pub type HashSet<K> = std::collections::HashSet<K, RandomState>;
