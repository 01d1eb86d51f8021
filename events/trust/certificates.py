"""Whom TLS trusts: a control plane's own certificate authority, and how people tell one from another."""

from __future__ import annotations

import hashlib
import ssl


def trusting(ca: str) -> ssl.SSLContext:
    """A TLS client that trusts what this certificate authority (PEM) signed, and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=ca)
    return context


def certificate_fingerprint(pem: str) -> str:
    """SHA-256 of the first certificate in `pem`, in hex: what a join line pins."""
    first = pem[: pem.index("-----END CERTIFICATE-----")] + "-----END CERTIFICATE-----\n"
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).hexdigest()
