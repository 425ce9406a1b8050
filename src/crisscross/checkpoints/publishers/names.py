"""What each publisher of CCNet calls its tensors."""

from collections.abc import Iterator, Mapping

# Leading words of names, one column per publisher. A row with `*` stands for two, of a convolution and its norm, whose
# names `PAIRS` has.
COLUMNS = ("crisscross", "mmseg", "authors", "sssegmentation", "paddleseg")
PAIRS = (("conv", "norm"), ("conv", "bn"), ("0", "1"), ("0", "1"), ("_conv", "_batch_norm"))
HEADS = """
head.reduce.*               decode_head.convs.0.*       head.conva.*        conv_before_cca.*   head.conva.*
head.attend.attention.query decode_head.cca.query_conv  head.cca.query_conv cca.query_conv      head.cca.q_conv
head.attend.attention.key   decode_head.cca.key_conv    head.cca.key_conv   cca.key_conv        head.cca.k_conv
head.attend.attention.value decode_head.cca.value_conv  head.cca.value_conv cca.value_conv      head.cca.v_conv
head.attend.attention.gamma decode_head.cca.gamma.scale head.cca.gamma      cca.gamma.scale     head.cca.gamma
head.refine.*               decode_head.convs.1.*       head.convb.*        conv_after_cca.*    head.convb.*
head.fuse.*                 decode_head.conv_cat.*      head.bottleneck.*   decoder.*           head.out.conv_bn_relu.*
head.classify               decode_head.conv_seg        head.bottleneck.3   decoder.4           head.out.conv
aux_head.reduce.*           auxiliary_head.convs.0.*    dsn.*               auxiliary_decoder.* aux_head.conv_bn_relu.*
aux_head.classify           auxiliary_head.conv_seg     dsn.3               auxiliary_decoder.4 aux_head.conv
"""
STEM = """
backbone.net.conv1.0 backbone.stem.0 conv1 backbone_net.stem.0 backbone.conv1_1._conv
backbone.net.conv1.1 backbone.stem.1 bn1   backbone_net.stem.1 backbone.conv1_1._batch_norm
backbone.net.conv1.3 backbone.stem.3 conv2 backbone_net.stem.3 backbone.conv1_2._conv
backbone.net.conv1.4 backbone.stem.4 bn2   backbone_net.stem.4 backbone.conv1_2._batch_norm
backbone.net.conv1.6 backbone.stem.6 conv3 backbone_net.stem.6 backbone.conv1_3._conv
backbone.net.bn1     backbone.stem.7 bn3   backbone_net.stem.7 backbone.conv1_3._batch_norm
"""


def _column(number: int) -> Iterator[str]:
    for row in (HEADS + STEM).split("\n"):
        if cells := row.split():
            pair = PAIRS[number] if "*" in cells[number] else ("",)
            yield from (cells[number].replace("*", word) for word in pair)


class Names:
    """A one-to-one table of names: the longest run of leading words that is in the table is replaced.

    Args:
        publisher: a word of `COLUMNS`.
        others: their leading words -> ours, for everything that `HEADS` and `STEM` do not list.
        leaves: their last word -> ours, where it differs (`_mean` -> `running_mean`).
    """

    def __init__(self, publisher: str, others: Mapping[str, str], leaves: Mapping[str, str] | None = None) -> None:
        listed = zip(_column(COLUMNS.index(publisher)), _column(0), strict=True)
        self._heads, self._leaves = {**others, **dict(listed)}, dict(leaves or {})
        self._heads_back = {ours: theirs for theirs, ours in self._heads.items()}
        self._leaves_back = {ours: theirs for theirs, ours in self._leaves.items()}

    def ours(self, key: str) -> str:
        """Our name of one of their tensors; unknown names are kept."""
        return _replaced(key, self._heads, self._leaves)

    def theirs(self, key: str) -> str:
        """Their name of one of ours."""
        return _replaced(key, self._heads_back, self._leaves_back)


def _replaced(key: str, heads: Mapping[str, str], leaves: Mapping[str, str]) -> str:
    head = key
    while head and head not in heads:
        head = head.rpartition(".")[0]
    if not head:
        return key
    path, dot, leaf = (heads[head] + key[len(head) :]).rpartition(".")
    return f"{path}{dot}{leaves.get(leaf, leaf)}"
