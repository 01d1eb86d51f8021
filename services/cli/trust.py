"""Whom the client believes over TLS: the certificate authority that was shown and agreed to, or the system's. A shell.

What goes wrong with TLS is told in words that say what to do.
"""

from __future__ import annotations

import binascii
import re
import ssl
from collections.abc import Iterator

import httpx2

from events.errors import InvalidInputError, NotFoundError, UnavailableError
from events.trust.certificates import trusting
from services.cli.address import is_loopback

CA_PATH = "/api/v1/ca"

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_TIMEOUT = httpx2.Timeout(10, connect=5)

# X509_V_ERR_… of OpenSSL's x509_vfy.h
_EXPIRED, _NOT_YET = 10, 9
_NAMES = (62, 64)
_UNKNOWN_ISSUER = (18, 19, 20, 21)

_NOT_TLS = (
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "RECORD_LAYER_FAILURE",
    "UNKNOWN_PROTOCOL",
    "PACKET_LENGTH_TOO_LONG",
)
"""How OpenSSL says, in its several versions, that the other side answers with something else."""


class CertificateError(UnavailableError):
    """Raised when the gateway's certificate is not one to believe. Nothing was sent to it.

    `unknown_issuer` where only its signer is unknown: then it may be one that a control plane made itself.
    """

    code = "certificate"
    title = "The gateway's certificate cannot be believed"

    def __init__(self, detail: str, *, hint: str = "", field: str | None = None, unknown_issuer: bool = False) -> None:
        super().__init__(detail, hint=hint, field=field)
        self.unknown_issuer = unknown_issuer


def context(ca: str) -> ssl.SSLContext:
    """TLS that believes what `ca` (PEM) signed and nothing else; without one, what the system believes.

    Raises `InvalidInputError` where `ca` is not a certificate.
    """
    if not ca:
        return ssl.create_default_context()
    try:
        return trusting(ca)
    except ssl.SSLError as error:
        raise InvalidInputError(
            "The certificate authority is not a certificate in PEM.", hint="Look at WIRELOOM_CA, or sign in again."
        ) from error


def first_certificate(pem: str) -> str:
    """The first certificate of `pem` and nothing else, so that nobody hides a second behind one that was compared.

    Raises `InvalidInputError` where there is none.
    """
    found = _CERTIFICATE.search(pem)
    try:
        return ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(found[0] if found else ""))
    except (ValueError, binascii.Error) as error:
        raise InvalidInputError("That is not a certificate in PEM.") from error


def given_fingerprint(text: str) -> str:
    """A fingerprint as a person gave it, with or without colons. Raises `InvalidInputError`."""
    plain = text.replace(":", "").replace(" ", "").lower()
    if not _FINGERPRINT.fullmatch(plain):
        raise InvalidInputError(
            "That is not a certificate's fingerprint (SHA-256).",
            hint="Give the 64 hexadecimal digits that stand behind --ca-sha256 in a join line.",
            field="ca-sha256",
        )
    return plain


def fetch_authority(url: str, transport: httpx2.BaseTransport | None) -> str:
    """The certificate (PEM) that the gateway says it is signed by: to be compared before it is believed.

    Raises `NotFoundError` where the gateway did not make its certificate itself, `UnavailableError`.
    """
    try:
        with _unverified(url, transport) as http:
            answer = http.get(CA_PATH)
    except httpx2.TransportError as error:
        raise explained(url, error) or UnavailableError(
            f"Nothing answers at {url}.", hint="Is this the gateway's address?"
        ) from error
    if answer.status_code == 404:
        raise NotFoundError(
            f"The gateway at {url} has no certificate authority of its own to compare.",
            hint="Leave --ca-sha256 out; if its certificate is not believed then, give its authority in WIRELOOM_CA.",
        )
    try:
        if answer.is_success:
            return first_certificate(answer.text)
    except InvalidInputError:
        pass
    raise UnavailableError(
        f"What answers at {url} is not a Wireloom gateway (it said {answer.status_code} to {CA_PATH}).",
        hint="Is this the gateway's address?",
    )


def speaks_tls(url: str, transport: httpx2.BaseTransport | None) -> bool:
    """Whether what stands at an http address wants https."""
    try:
        with _unverified(url.replace("http:", "https:", 1), transport) as http:
            http.get("/healthz")
    except httpx2.TransportError:
        return False
    return True


def explained(url: str, error: httpx2.TransportError) -> UnavailableError | None:
    """A failure in words, if it was TLS that failed."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _unbelieved(url, cause)
        if isinstance(cause, ssl.SSLError) and cause.reason in _NOT_TLS:
            return UnavailableError(
                f"What answers at {url} does not speak TLS.",
                hint="Is this the gateway's address? One without authorisation is at http://127.0.0.1:7480.",
            )
    return None


def _unbelieved(url: str, error: ssl.SSLCertVerificationError) -> CertificateError:
    if error.verify_code == _EXPIRED:
        return CertificateError(
            f"The certificate of {url} has expired.",
            hint="Start the control plane again, which renews one that it made itself; and look at both clocks.",
        )
    if error.verify_code == _NOT_YET:
        return CertificateError(f"The certificate of {url} does not count yet.", hint="Look at both clocks.")
    if error.verify_code in _NAMES:
        return CertificateError(
            f"The certificate of {url} is for another name or address.",
            hint="Use a name that it was made for, or have the control plane's made for this one too.",
        )
    return CertificateError(
        f"The certificate of {url} is signed by nobody that is believed here.",
        hint=f"Sign in, which compares its fingerprint: wireloom login {url}",
        unknown_issuer=error.verify_code in _UNKNOWN_ISSUER,
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    following: BaseException | None = error
    while following is not None:
        yield following
        following = following.__cause__ or following.__context__


def _unverified(url: str, transport: httpx2.BaseTransport | None) -> httpx2.Client:
    """For what needs no secrecy and is checked afterwards. It carries no token."""
    return httpx2.Client(
        base_url=url, transport=transport, timeout=_TIMEOUT, verify=False, trust_env=not is_loopback(url)
    )
