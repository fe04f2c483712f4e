"""Configuration documents for tests: the one place that knows the schema's names (docs/config.md).

A document is a dict, written as JSON, which is YAML. Keys are made here, so that tests know their
texts; the document has their hashes.
"""
import copy
import hashlib
import json


def key_text(ident):
    """A well-formed key that belongs to `ident`: the same each time."""
    secret = hashlib.sha256(ident.encode()).hexdigest()[:26]
    return f"lv_{ident}_{secret}"


def key(ident, publish=(), subscribe=(), sys=False):
    return {"id": ident, "hash": "sha256:" + hashlib.sha256(key_text(ident).encode()).hexdigest(),
            "publish": list(publish), "subscribe": list(subscribe), "sys": sys}


ALL = ["#"]


def app(name="dev", keys=None, **kw):
    return {"name": name, "auto_channels": True,
            "keys": [key("full", ALL, ALL, sys=True)] if keys is None else keys, **kw}


def doc(apps=None, listen=(), **kw):
    """`listen`: extra listeners; the harness adds the plain ones."""
    return {"apps": [app()] if apps is None else apps, "listen": list(listen), **kw}


def merged(base, over):
    out = copy.deepcopy(base)
    for k, v in over.items():
        out[k] = merged(out[k], v) if isinstance(v, dict) and isinstance(out.get(k), dict) else v
    return out


def text(document):
    return json.dumps(document, indent=1) + "\n"
