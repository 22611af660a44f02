"""Certificates for tests: an authority, and what it signs."""

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)


def now() -> datetime.datetime:
    """The time, as certificates have it."""
    return datetime.datetime.now(datetime.UTC)


def name(text: str) -> x509.Name:
    """A distinguished name of a common name alone."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """A certificate authority, whose certificate is a file."""

    def __init__(self, folder: Path, common_name: str = "authority of the tests") -> None:
        self._folder = folder
        self._name = name(common_name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(self._name, self._key, now() - DAY, now() + DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.file = folder / "ca.pem"
        certificate = builder.sign(self._key, hashes.SHA256())
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def server(self, stem: str = "server", **validity: datetime.datetime) -> tuple[Path, Path]:
        """Signs a certificate of a server on this machine. Returns the files of the certificate and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(
            name(stem),
            key,
            validity.get("not_before", now() - DAY),
            validity.get("not_after", now() + DAY),
        )
        addresses = [x509.IPAddress(ipaddress.ip_address(f"127.0.0.{last}")) for last in (1, 2)]
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), *addresses]), critical=False
        ).add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
        return self._write(stem, key, builder)

    def client(
        self, stem: str, *, is_server: bool = False, **validity: datetime.datetime
    ) -> tuple[Path, Path]:
        """Signs a certificate of a client, with the stem as its common name. Returns its files."""
        key = ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.SERVER_AUTH if is_server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = self._builder(
            name(stem),
            key,
            validity.get("not_before", now() - DAY),
            validity.get("not_after", now() + DAY),
        ).add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        return self._write(stem, key, builder)

    def revoke(self, *certificates: Path) -> Path:
        """Signs a list of revoked certificates, and returns its file."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._name)
            .last_update(now() - DAY)
            .next_update(now() + DAY)
            .add_extension(x509.CRLNumber(1), critical=False)
        )
        for file in certificates:
            certificate = x509.load_pem_x509_certificate(file.read_bytes())
            revoked = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number)
            builder = builder.add_revoked_certificate(revoked.revocation_date(now() - DAY).build())
        lists = self._folder / "crl.pem"
        signed = builder.sign(self._key, hashes.SHA256())
        lists.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        return lists

    def _write(
        self, stem: str, key: ec.EllipticCurvePrivateKey, builder: x509.CertificateBuilder
    ) -> tuple[Path, Path]:
        """Signs a certificate, and writes it and its key, which only this user may read."""
        certificate, key_file = self._folder / f"{stem}.pem", self._folder / f"{stem}.key"
        signed = builder.sign(self._key, hashes.SHA256())
        certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        key_file.touch(mode=0o600)
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate, key_file

    def _builder(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        not_before: datetime.datetime,
        not_after: datetime.datetime,
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before)
            .not_valid_after(not_after)
        )
