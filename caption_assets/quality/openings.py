"""How texts begin that are no captions: patterns in English, German and Chinese, for `beginnings`.

Collected from what models write, and widened to what they could as well. Each line is one way to begin.
"""

_USER = r"(?:the )?user(?:'s|’s)?\b"
_WELL = r"(?:(?:okay|ok|alright|all right|well|hmm+|right|so|now|first)\b[\s,.:!]+)*"
_DE_WELL = r"(?:(?:okay|ok|gut|also|hm+|nun|so|jetzt)\b[\s,.:!]+)*"
_ZH_WELL = r"(?:(?:好的?|嗯+|唔|那么|所以|首先|现在)[,，。.、\s]*)*"
_CALLED = (
    r"(?:(?:video|detailed|short|brief|concise|rewritten|revised|enhanced|improved|refined|richer|new|possible|complete|"
    r"comprehensive|full|clear|polished|expanded|enriched|better|more \w+) )*"
    r"(?:description|caption|summary|version|rewrite|rendition|account|analysis|breakdown|transcript|answer|response)s?\b"
)
_DE_CALLED = (
    r"(?:\w+(?:e|er|es|en) )*(?:video)?"
    r"(?:beschreibung|bildunterschrift|zusammenfassung|fassung|version|überarbeitung|analyse|antwort|formulierung)\b"
)
_ZH_CALLED = r"(?:描述|说明|字幕|标题|总结|概述|摘要|版本|改写|分析|内容|回答|文案)"

THINKING = (
    r"</?\s*(?:think|thinking|thought|reasoning|analysis|reflection)\s*>",
    r"\[/?THINK(?:ING)?\]",
    rf"{_WELL}{_USER} "
    r"(?:wants?|needs?|would like|(?:has )?(?:provided|uploaded|shared|given)|gave|"
    r"(?:asks?|asked|is asking|has asked)(?! an? (?!\w* ?(?:description|caption|question))|"
    r" (?:his|her|their|another)))\b",
    rf"{_WELL}{_USER} requests? (?:an?|the|that|me|us|to|for|is|was)\b",
    rf"{_WELL}{_USER} (?:request|query|prompt|question|instruction)s?"
    r"(?:[:,.]| (?:is|was|asks?|says|wants|here|about)\b)",
    r"(?:okay|ok|alright|all right|got it|hmm+)\b[\s,.:!]+(?:so\b[\s,]+)?"
    r"(?:i|we|let me|let's|let’s|first|the task|this is|looking at|now)\b",
    r"hmm+[,.…\s]|wait(?:[,.…!]| a (?:second|minute|moment)\b)",
    rf"{_WELL}(?:let me|let's|let’s|let us) (?:\w+ )?"
    r"(?:think|analy[sz]e|start|break|see|look|examine|consider|go through|figure|tackle|work|check|process|review|"
    r"describe|watch|take a)\b",
    rf"{_WELL}(?:i|we)(?:'ll| will)? (?:need|have|am going|are going|should|must) to (?:\w+ly )?(?:describe|analy[sz]e|"
    r"look at|identify|write|provide|create|figure|break|start|examine|rewrite|check|consider|focus|summari[sz]e|"
    r"determine|mention|ensure|make sure|come up|generate|caption|go through|pay|capture|note|keep)\b",
    rf"{_WELL}(?:i|we)(?:'ll|’ll| will| should| must) (?:\w+ )?(?:describe|analy[sz]e|start|begin|look at|examine|"
    r"go through|break|write|identify|focus|watch|review|"
    r"provide an? (?:\w+ )?(?:description|caption|summary|analysis))\b",
    rf"{_WELL}(?:we are|we're|we’re|i am|i'm|i’m|i was|i have been) (?:asked to|tasked|supposed to|expected to)\b",
    r"(?:my|the) task (?:here )?is to\b",
    r"(?:here(?:'s|’s| is) (?:an?|my|the) )?(?:thinking|thought|reasoning) process\b",
    r"(?:analysis|reasoning|my thoughts)\s*[:：]",
    r"step 1\s*[:：]\s*(?:analy|understand|identify|look|examine|describe|determine|review|read)",
    r"◁/?think▷",
    rf"{_DE_WELL}(?:der|die) (?:nutzer|benutzer|anwender|user)(?:in)? "
    r"(?:möchte|will|bittet|verlangt|wünscht|braucht|fordert|fragt(?! (?:am|an|im|in|eine[nr]?|de[nr]|die|ihre|seine))|"
    r"hat (?:\w+ ){0,5}(?:gebeten|gefragt|gegeben|hochgeladen|bereitgestellt|verlangt|gefordert|geschrieben))\b",
    rf"{_DE_WELL}(?:lass|lasst|lassen sie) (?:mich|uns) (?:\w+ ){{0,4}}"
    r"(?:analysieren|beschreiben|überlegen|nachdenken|durchgehen|ansehen|anschauen|betrachten|beginnen|anfangen|prüfen)\b",
    r"(?:okay|ok|gut|also|hm+)[\s,.:]+(?:ich|zuerst|zunächst|schauen wir|die aufgabe)\b",
    r"(?:zuerst|zunächst|jetzt|nun|als erstes) "
    r"(?:muss|müssen|sollte|sollten|werde|werden|schaue|analysiere) (?:ich|wir)\b",
    r"(?:ich|wir) (?:muss|müssen|soll|sollen|sollte|sollten) "
    r"(?:jetzt|nun|zuerst|zunächst|das|dieses|den|die|hier|eine[nr]?)\b",
    r"(?:schauen wir|sehen wir) (?:uns|mal)\b",
    r"meine aufgabe (?:ist|besteht)\b",
    rf"{_ZH_WELL}(?:这个|该|这位)?(?:用户|使用者)(?:想(?:要|让|知道|了解)|希望|要求|需要(?:我|一)|要我|让我|问(?:我|的|了|[:：])|"
    r"请求|给(?:了|我|出)|提供|上传了?(?:一[段个张份])?(?:视频|图)|的(?:要求|请求|问题|指令|提示|意思|需求|目的))",
    rf"{_ZH_WELL}让(?:我|我们)(?:来|先|仔细|一步|好好|想|看|分析|思考|理|描述|开始|逐)",
    r"(?:好的?|嗯+|那么|首先|现在)[,，。.、\s]*(?:我|我们)(?:需要|得|应该|要|来(?!到)|先|必须)",
    r"(?:我|我们)来(?:仔细|先|逐步)?(?:分析|描述)",
    r"(?:我|我们)(?:需要|得|应该|必须)(?:先|首先|仔细|根据|描述|分析|看|把|对)",
    r"嗯+[,，。…\s]",
)

REFUSAL = (
    r"(?:i['’]?m|i am|we are|we['’]re) (?:very |so |really |terribly |truly |deeply )?(?:sorry|afraid)\b",
    r"my apologies\b|(?:sorry|apologies|unfortunately)(?:[,.!] (?:but )?| but )(?:i|we|as an|there|no|the video)\b",
    r"(?:sorry|unfortunately) (?:i|we) (?:am|are|can|cannot|can['’]?t|could|couldn['’]?t|do|don['’]?t|was|were)\b",
    r"i (?:apologi[sz]e|regret)\b",
    r"as an? (?:ai|artificial intelligence|large language model|language model|assistant|text[- ]based|vision)\b"
    r"[\w\s()'’-]{0,60},?\s(?:i|i['’]m|my|we)\b",
    r"i(?: am|['’]m) (?:just |only |merely )?"
    r"(?:an? (?:ai|language model|text)|unable to|not able to|not capable of|not allowed to)\b",
    r"i (?:cannot|can['’]?t|can not|could not|couldn['’]t|won['’]?t|will not|do not|don['’]?t|am not able to) "
    r"(?:\w+ ){0,3}(?:assist|help|provide|describe|see|view|watch|access|process|analy[sz]e|fulfil+|comply|generate|"
    r"identify|create|have access|have the ability|rewrite|answer|determine|discuss|engage|continue|support)\b",
    r"(?:there is|there's|it (?:seems|appears|looks like)(?: that)?(?: there is)?) no (?:video|image|caption|picture)"
    r"(?: \w+)? (?:provided|attached|given|included|to (?:describe|analy[sz]e|rewrite)|in your)\b",
    r"no (?:video|image|caption|picture|clip|frame)s? (?:\w+ )?(?:was|were|is|are|has been|have been) (?:\w+ )?"
    r"(?:provided|attached|given|included|uploaded|shared|supplied)\b",
    r"(?:it (?:seems|appears|looks like)(?: that| as if)? )?"
    r"you (?:have not|haven['’]?t|did not|didn['’]?t|forgot to|have yet to) "
    r"(?:\w+ )?(?:provide|attach|upload|share|include|sen[dt]|give)",
    r"(?:the|this|your) (?:video|image|clip) (?:is|was) (?:not |un)"
    r"(?:available|accessible|provided|attached|included)\b",
    r"i (?:must|have to|need to) (?:\w+ly )?decline\b",
    r"(?:please|could you(?: please)?|can you(?: please)?) (?:provide|upload|share|attach|send|give)\b",
    r"(?:es )?(?:tut mir|tut uns) (?:sehr |wirklich |furchtbar )?leid\b",
    r"(?:leider|bedauerlicherweise|entschuldigung|verzeihung|entschuldigen sie)[,.!]?(?: aber)? "
    r"(?:kann|können|darf|ist es mir|bin ich|ich|wurde)\b",
    r"(?:ich|wir) (?:kann|können|darf|dürfen) (?:(?:leider|bei|ihnen|dir|dieses|das|diese|dabei) )*(?:nicht|keine?)\b",
    r"(?:ich|wir) (?:kann|können|darf|dürfen) (?:\w+ )*nicht "
    r"(?:helfen|beschreiben|beantworten|sehen|ansehen|analysieren)\b",
    r"als (?:eine? )?(?:ki|künstliche intelligenz|sprachmodell|ki-\w+)\b[\w\s-]{0,40},?\s"
    r"(?:(?:kann|habe|bin|darf|verfüge|besitze) ich|ist es mir|ich)\b",
    r"(?:ich habe|wir haben) (?:leider )?(?:keinen? (?:zugriff|zugang|möglichkeit)|kein (?:video|bild))\b",
    r"es (?:wurde|ist) (?:leider )?kein (?:video|bild|clip)\b",
    r"ich bin (?:nur |lediglich )?"
    r"(?:eine? (?:ki|sprachmodell|künstliche|textbasiert\w*)|nicht in der lage|nicht imstande)\b",
    r"bitte (?:stellen|laden|geben|senden|teilen|schicken) sie\b",
    r"(?:非常|十分|很|真的很)?(?:抱歉|对不起|遗憾|不好意思)[,，。!！、\s]",
    r"(?:很遗憾|抱歉)(?:地)?(?:我|的是)",
    r"(?:作为|身为|我是)(?:一个|一名|一款)?(?:人工智能|ai|语言模型|大语言模型|大型语言模型)",
    r"我(?:无法|不能|没有办法|没办法|不可以|没有能力|暂时无法|目前无法|不便)"
    r"(?:直接|协助|帮助|提供|描述|查看|观看|看到|访问|处理|分析|满足|回答|生成|识别|为|对|完成|继续)",
    r"无法(?:直接)?(?:查看|观看|访问|描述|分析|看到)[^。,，]{0,6}视频",
    r"(?:您|你)(?:并|还)?(?:没有?|未)(?:提供|上传|附上)",
    r"(?:请|麻烦)(?:您|你)?(?:提供|上传|分享|发送)",
)

PREAMBLE = (
    r"(?:sure(?: thing)?|certainly|of course|absolutely|okay|ok|alright|gladly|great|yes|no problem|understood|got it)"
    r"\s*(?:[!:—–]|[,.]\s+(?:here|i|let|below|the following|this is|happy|your|as requested)\b)",
    rf"(?:here|below|following)(?:'s|’s| is| are) (?:an? |the |my |your |one |some )?{_CALLED}"
    r"(?! (?:slide|card|page|screen|sheet))",
    rf"(?:this is|that is|the following is|what follows is) (?:an? |the |my |your ){_CALLED}",
    r"(?:in )?(?:the|this) (?:video|clip|scene|footage|image|sequence|caption),?(?: the \w+| \w+)? "
    r"(?:shows|depicts|contains|features|presents|describes|can be described|captures|is|reads)"
    r"(?: (?:the|following|as|follows|this|scenes?|content|contents|events?))*\s*:",
    r"(?:the )?(?:\w+ )?(?:video |final |enhanced |rewritten |revised |improved |new )?"
    r"(?:caption|description|summary|answer|output|response|title|transcript|rewrite|version)[*_]*\s*:",
    r"(?:i (?:would|'d|’d) be (?:happy|glad)|i'm happy|i am happy|happy to help)\b",
    r"based on (?:the|this|your) (?:video|caption|footage|frames|images?|provided)[^.:]{0,60}(?:,\s*here\b|:)",
    r"(?:gerne?|natürlich|selbstverständlich|klar|sicher|aber sicher|okay|ok|jawohl|kein problem|verstanden)"
    r"\s*(?:[!:—–]|[,.]\s+(?:hier|ich|im folgenden|nachfolgend|dies|das|so|mache)\b)",
    r"(?:hier|nachfolgend|im folgenden|unten|dies|das|folgendes)\s+(?:ist|sind|folgt|finden sie|finden)\s+"
    rf"(?:sie )?(?:eine?|die|der|das|meine?|ihre?|deine?)? ?{_DE_CALLED}",
    r"(?:(?:in )?(?:das|dieses|diesem|dem) (?:video|clip|bild)|(?:die|diese) (?:szene|aufnahme|sequenz))(?: \w+)? "
    r"(?:zeigt|enthält|stellt|beschreibt|ist|sieht man|sehen wir|sind)"
    r"(?: (?:folgendes|das|die|wie|folgt|folgende|szenen?|dar|zu|sehen))*\s*:",
    rf"{_DE_CALLED}(?: des videos| des clips)?[*_]*\s*:",
    r"(?:ausgabe|ergebnis|titel|text|überschrift)[*_]*\s*:",
    r"(?:好的?|当然可以|当然|没问题|可以的?|没有问题|收到|明白了?)[,，。!！:：、\s]+"
    r"(?:以下|下面|这是|这里|我|为您|根据|请看|如下|此)",
    r"(?:好的|当然可以|当然|没问题|收到|明白了?)[!！:：]",
    r"(?:以下|如下)(?:是|为|给出|就是|便是)",
    rf"下面(?:是|为|给出|就是|便是)[^。,，:：]{{0,16}}{_ZH_CALLED}",
    rf"(?:这|此)(?:是|为)(?:一[个段份则篇]|该|这段|对)?[^。,，:：]{{0,16}}{_ZH_CALLED}[:：]",
    rf"[^。,，:：\s]{{0,8}}{_ZH_CALLED}(?:如下|为)?\s*[:：]",
    r"(?:这段|该|此|本|整个)?(?:视频|画面|片段|场景|影片)(?:中)?"
    r"(?:展示|显示|内容|描述|呈现|包含|如下|讲述|主要)[^。,，:：]{0,10}[:：]",
    r"根据(?:您|你|所)?(?:提供|给出|视频|画面|要求)[^。:：]{0,20}[,，:：]\s*(?:以下|下面|我|这是)",
    r"```|~~~",
)
