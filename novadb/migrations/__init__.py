"""Nova's two schemas, revision by revision, under Nova's own revision identifiers."""
