"""Envoy's mutual TLS: the two ends of a hop between sidecars, with the checks that ours make.

TLS 1.3 only, a certificate from both, the called side known by its exact SPIFFE ID, callers by their trust domain. The
ciphers of TLS 1.3 cannot be chosen on either side: BoringSSL and OpenSSL take an AES-GCM.
"""

from bench import mesh
from bench.identities import TRUST_DOMAIN, Authority
from bench.proxies.envoy_config import HTTP2, TYPE, Config, address, cluster, configuration, manager, policies_of
from bench.proxies.site import Site

_TLS = f"{TYPE}.transport_sockets.tls.v3"


def _common(files: dict[str, str], folder: str, match: Config, alpn: tuple[str, ...]) -> Config:
    named = {name: {"filename": f"{folder}/{file}"} for name, file in files.items()}
    return {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [{"certificate_chain": named["cert"], "private_key": named["key"]}],
        "validation_context": {
            "trusted_ca": named["bundle"],
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": match}],
        },
        "alpn_protocols": [*alpn],
    }


def inbound_listener(site: Site, authority: Authority, app: str, alpn: tuple[str, ...] = ("h2", "http/1.1")) -> Config:
    """The listener for other sidecars; requests go to the cluster `app`."""
    files = authority.write(site.folder, mesh.NAMESPACE, mesh.SERVICE)
    match = {"prefix": f"spiffe://{TRUST_DOMAIN}/"}
    tls = {
        "@type": f"{_TLS}.DownstreamTlsContext",
        "common_tls_context": _common(files, str(site.folder), match, alpn),
        "require_client_certificate": True,
        "disable_stateless_session_resumption": True,
    }
    route = {"match": {"prefix": "/"}, "route": {"cluster": app, "timeout": "30s"}}
    routes = {"name": "inbound", "virtual_hosts": [{"name": "app", "domains": ["*"], "routes": [route]}]}
    chain = {
        "filters": [manager(site, {"route_config": routes}, minimal=False)],
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
    }
    return {"name": "inbound", "address": address("0.0.0.0", 0), "filter_chains": [chain]}


def inbound(site: Site, authority: Authority) -> Config:
    """Bootstrap of the called side: TLS from other sidecars to the app."""
    app = cluster("app", (mesh.ENDPOINTS["v1"][0],), site.port) | policies_of(minimal=False)
    return {
        "admin": {"address": address("127.0.0.1", 0)},
        "static_resources": {"listeners": [inbound_listener(site, authority, "app")], "clusters": [app]},
    }


def outbound(site: Site, authority: Authority, called_port: int, alpn: str) -> Config:
    """Bootstrap of the calling side: the routes of mesh.py, each endpoint dialled at its sidecar."""
    made = configuration(site, minimal=False)
    files = authority.write(site.folder, mesh.NAMESPACE, mesh.CALLER)
    match = {"exact": f"spiffe://{TRUST_DOMAIN}/ns/{mesh.NAMESPACE}/sa/{mesh.SERVICE}"}
    tls = {
        "@type": f"{_TLS}.UpstreamTlsContext",
        "common_tls_context": _common(files, str(site.folder), match, (alpn,)),
        "sni": f"{site.port}.{mesh.SERVICE}.{mesh.NAMESPACE}.mesh",
    }
    clusters = []
    for version, addresses in mesh.SIDECARS.items():
        one = cluster(version, addresses, called_port) | policies_of(minimal=False)
        one["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": tls}
        clusters.append(one | (HTTP2 if alpn == "h2" else {}))
    made["static_resources"]["clusters"] = clusters
    return made
