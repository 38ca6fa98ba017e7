"""Texts that tell tokenizers apart, for `t5like verify` and the tests."""

SENTINELS = (
    "The <extra_id_0> sat on the <extra_id_1> .",
    "<extra_id_0> rises <extra_id_1> <extra_id_2>",
    "床前 <extra_id_0> 光",
)
"""For vocabularies that have sentinels."""

NASTY_TEXTS = (
    "",
    "a",
    "The river rises in the hills above the town.",
    "床前明月光，疑是地上霜。舉頭望明月，低頭思故鄉。",
    "中文 and English 混在一起 with 数字 123，以及标点！？",
    "emoji 🙂👩\u200d👩\u200d👧\u200d👦🏳️\u200d🌈 end",
    "two  spaces   three    four",
    "trailing spaces  ",
    "line one\nline two\n\n\tindented\r\nlast",
    "ＦＵＬＬ ｗｉｄｔｈ ﬁ ligature ① ² ½ Å A\u030a",
    "Naïve CAFÉ cre\u0300me brûlée ÜBER straße İstanbul",
    "no\u00a0break\u3000ideographic\u2009thin\u200bzero\ufeffbom\u00adsoft",
    "def f(x):\n    return x[0] ** 2  # 3.14e-10",
    "don't we'll I'M it's 1234567 12,345.67",
    "العربية हिन्दी ไทย 한국어 日本語 Ελληνικά кириллица",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 \U0001f9ff \U00020000",
    "x" * 300,
    "The quick brown fox jumps over the lazy dog. 敏捷的棕色狐狸跳过懒狗。" * 300,
)
