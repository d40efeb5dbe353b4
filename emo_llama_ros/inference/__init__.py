"""Label first, words after: exact label scoring, caches over overlapping clips, streamed decoding."""
