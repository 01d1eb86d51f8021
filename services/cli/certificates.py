"""Certificates of our own (X.509, RFC 5280), for those who have none: an authority, and servers that it signs. Pure but
for the clock and randomness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_YEARS = 10
SERVER_DAYS = 397
"""So long a server's certificate counts: `wireloom up` makes a new one when half of that is over."""

_BACKDATED = timedelta(hours=24)
"""Machines' clocks may be behind."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority: certificate and key as PEM."""

    certificate: str
    key: str = field(repr=False)

    @classmethod
    def made(cls) -> Authority:
        """A new one."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("Wireloom control plane")
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        certificate = (
            _builder(name, name, key.public_key(), timedelta(days=365 * AUTHORITY_YEARS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(_pem(certificate), _key_pem(key))


def server_certificate(authority: Authority, hosts: Sequence[str], *, mutual: bool = False) -> tuple[str, str]:
    """A server's certificate for `hosts`, names and addresses, and its key; both PEM, the authority's certificate
    with the former. With a `mutual` one the server may show itself to its like as a client too."""
    issuer = x509.load_pem_x509_certificate(authority.certificate.encode())
    issuer_key = serialization.load_pem_private_key(authority.key.encode(), None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    names = [_general_name(host) for host in dict.fromkeys(hosts)]
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, *([ExtendedKeyUsageOID.CLIENT_AUTH] if mutual else [])]
    certificate = (
        _builder(_name("Wireloom"), issuer.subject, key.public_key(), timedelta(days=SERVER_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
        .sign(issuer_key, hashes.SHA256())
    )
    return _pem(certificate) + authority.certificate, _key_pem(key)


def is_due(certificate: str, hosts: Sequence[str], now: datetime) -> bool:
    """Whether a server's certificate (PEM) should be made anew: half its time is over, or it is not for all `hosts`."""
    found = x509.load_pem_x509_certificate(certificate.encode())
    half = found.not_valid_before_utc + (found.not_valid_after_utc - found.not_valid_before_utc) / 2
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return now >= half or any(_general_name(host) not in list(names) for host in hosts)


def certificate_hosts(certificate: str) -> list[str]:
    """The names and addresses that a server's certificate (PEM) is for. Raises ValueError where it is none."""
    found = x509.load_pem_x509_certificate(certificate.encode())
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return [*names.get_values_for_type(x509.DNSName), *addresses]


def is_for(certificate: str, host: str) -> bool:
    """Whether a server's certificate (PEM) is for a host; a `*` in it stands for one label (RFC 9525, section 6.3)."""
    wanted = host.lower()
    _, dot, parent = wanted.partition(".")
    names = {name.lower() for name in certificate_hosts(certificate)}
    return wanted in names or (bool(dot) and f"*.{parent}" in names)


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
