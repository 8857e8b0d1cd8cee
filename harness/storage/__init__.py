"""Files on disk and in the remote cache: atomic writes, locks, checksummed records, bounded and safe readers."""
