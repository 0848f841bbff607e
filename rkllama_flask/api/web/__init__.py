"""HTTP for every dialect: bodies, schemas, streams, errors, access."""
