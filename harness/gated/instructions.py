"""What ``harness fetch`` prints for a dataset that only its owner may give: whom to ask, what to put where, what
happens then."""

from __future__ import annotations

THEN = """
Then:  harness fetch {name} --from FOLDER
       (files may lie at any depth in FOLDER, gzip'd or not; the result goes to $HARNESS_HOME/datasets)"""

BIOASQ = """\
bioasq: questions of BioASQ task 8b over PubMed, 14,914,602 documents. BioASQ gives it to registered users.

1. Register at http://bioasq.org (participants' area), accept the terms, and put into one folder:
     8B1_golden.json ... 8B5_golden.json   task 8b, test batches with answers
     allMeSH_2020.json                     task 9a, "training v.2020", unzipped
2. Into the same folder, free of registration, from https://ftp.ncbi.nlm.nih.gov/pubmed/baseline/:
     pubmed*.xml.gz                        for the few judged articles that allMeSH_2020.json lacks
   Without allMeSH_2020.json the baseline makes the whole corpus, which is then larger than BEIR's.

A document is title and abstract of an article under its PMID; a query is a question's body; every article that a
question's answer names is relevant."""

SIGNAL1M = """\
signal1m: tweets about news articles, 2,866,316 documents. Signal AI gives the articles and judgements, X the tweets.

1. Ask Signal AI, at https://research.signal-ai.com/datasets/signal1m.html (the million articles) and at
   https://research.signal-ai.com/datasets/signal1m-tweetir.html (the judgements), and put into one folder:
     signalmedia-1m.jsonl.gz
     signal1m_tweets_qrels
2. Fetch the tweets whose ids are listed at https://github.com/igorbrigadir/newsir16-data (twitter/curated) through X's
   programming interface, and put them into FOLDER/tweets/ as X's JSON objects, one a line, or lines of id, tab, text.

A document is a tweet without emoji and links; a query is the title of a judged article. Tweets that were deleted since
are counted and stated in the dataset's fingerprint."""

TREC_NEWS = """\
trec-news: background articles of the Washington Post, 594,977 documents. NIST gives it to organisations that sign its
agreement.

1. Sign the agreement at https://trec.nist.gov/data/wapost/ and put into one folder, unpacked, of version 2:
     TREC_Washington_Post_collection.v2.jl
2. Into the same folder, free of any agreement, from https://trec.nist.gov/data/news2019.html:
     newsir19-background-linking-topics.xml
     newsir19-qrels-background.txt

A document is title and paragraphs of an article; a query is the title of the article that a topic names; the grades 0,
2, 4, 8 and 16 become 0 to 4."""

ROBUST04 = """\
robust04: newswire of TREC disks 4 and 5, 528,155 documents. NIST gives it to organisations that sign its agreement.

1. Sign the agreement at https://trec.nist.gov/data/cd45/index.html and put the disks' folders into one folder, as they
   are (.z files need no unpacking; the Congressional Record is not read):
     FBIS, FR94, FT, LATIMES
2. Into the same folder, free of any agreement, from https://trec.nist.gov/data/robust/:
     04.testset.gz                         topics
     qrels.robust2004.txt                  judgements

A document is the text elements of a <DOC> (headline, date and text); a query is a topic's description."""

INSTRUCTIONS: dict[str, str] = {
    name: text + "\n" + THEN.format(name=name)
    for name, text in {
        "bioasq": BIOASQ,
        "signal1m": SIGNAL1M,
        "trec-news": TREC_NEWS,
        "robust04": ROBUST04,
    }.items()
}
"""Dataset -> what to print."""
