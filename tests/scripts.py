"""What somebody might write into a row in the hope that a page runs it; a page shows it as text.

Each sets ``window.__xss`` where it runs, and leaves an element with the attribute ``data-xss`` where it is read as HTML.
"""

from __future__ import annotations

PAYLOADS: dict[str, str] = {
    "a script": "<script data-xss>window.__xss=1</script>",
    "an image": "<img data-xss src=data: onerror=window.__xss=1>",
    "out of an attribute": '"><svg data-xss onload=window.__xss=1>',
    "out of quotes": "' data-xss autofocus onfocus='window.__xss=1' x='",
    "out of double quotes": '" data-xss autofocus onfocus="window.__xss=1" x="',
    "out of a pre": "</pre></code><script data-xss>window.__xss=1</script>",
    "out of a textarea": "</textarea></select><iframe data-xss srcdoc='<script>parent.__xss=1</script>'></iframe>",
    "out of a title": "</title></style></script><script data-xss>window.__xss=1</script>",
    "a link": '<a data-xss href="javascript:window.__xss=1">x</a>javascript:window.__xss=1',
    "a template": "{{ settings.SECRET_KEY }}{{ 7|add:7 }}{% debug %}${window.__xss=1}",
    "a comment": "<!--<img data-xss src=--><img data-xss src=data: onerror=window.__xss=1//-->",
    "odd letters": "\u202e\u2028\u2029<b data-xss onmouseover=window.__xss=1>\ufeff<math><mtext></table><style data-xss>",
    "escaped already": "&lt;script data-xss&gt;window.__xss=1&lt;/script&gt;&#x3c;b data-xss>",
}
