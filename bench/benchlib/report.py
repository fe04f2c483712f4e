"""Tables for people: medians with their ranges, ratios to the best peer and to the floor, and the
targets with what is missing to them."""
import operator

from . import scenarios

OPS = {"<=": operator.le, ">=": operator.ge}


def show(metric, value):
    unit, form = scenarios.UNITS[metric]
    return form.format(value)


def one_line(sc, m):
    return "  ".join(f"{scenarios.UNITS[c][0]} {show(c, m[c])}" for c in sc.columns if c in m)


def cell(metric, values, mid):
    if not values:
        return "-"
    text = show(metric, mid)
    if len(values) > 1 and show(metric, min(values)) != show(metric, max(values)):
        text += f" ({show(metric, min(values))}-{show(metric, max(values))})"
    return text


def judge(sc, mid):
    """One entry a target; `met` is None where a subject that it needs did not run."""
    out, it = [], sc.targets(mid)
    while True:
        try:
            text, value, bound, op = next(it)
        except StopIteration:
            return out
        except KeyError as e:
            out.append({"text": f"needs {e.args[0]}, which did not run", "met": None, "aim": False})
            return out
        out.append({"text": text, "value": value, "bound": bound, "op": op,
                    "met": bool(OPS[op](value, bound)), "aim": text.startswith("aim:")})


def target_line(v):
    if v["met"] is None:
        return f"  ?     {v['text']}"
    off = ""
    if not v["met"] and v["bound"]:
        off = f", off by a factor of {max(v['value'], 1e-12) / v['bound']:.2f}"
        if v["op"] == ">=":
            off = f", off by a factor of {v['bound'] / max(v['value'], 1e-12):.2f}"
    word = "met " if v["met"] else "short" if v["aim"] else "MISS"
    return f"  {word:<5} {v['text']}: {v['value']:.3f} {v['op']} {v['bound']:.3f}{off}"


def table(sc, found, mid, verdicts):
    heads = ["", *(scenarios.UNITS[c][0] for c in sc.columns)]
    rows = [heads]
    for name, entry in found.items():
        if entry["missing"] or not entry["metrics"]:
            continue
        row = [name]
        for c in sc.columns:
            values = [m[c] for m in entry["metrics"] if c in m]
            row.append(cell(c, values, mid[name].get(c, 0)))
        if entry.get("voids"):
            row[0] += f" [{entry['voids']} void]"
        rows.append(row)
    widths = [max(len(r[i]) for r in rows) for i in range(len(heads))]
    lines = ["", f"== {sc.name}: {sc.title}"]
    lines += ["  ".join(f"{c:<{w}}" if i == 0 else f"{c:>{w}}"
                        for i, (c, w) in enumerate(zip(r, widths))).rstrip() for r in rows]
    for name, entry in found.items():
        if entry["missing"]:
            lines.append(f"{name}: left out ({entry['missing']})")
        for error in entry.get("errors", []):
            lines.append(f"{name}: FAILED: {error}")
    if sc.note:
        lines.append(f"({sc.note})")
    lines += [target_line(v) for v in verdicts]
    return "\n".join(lines)
