// What people call the keys of a stored result; the key itself shows where a name is pointed at.

const METRICS = { R: "Recall", RR: "MRR", AP: "MAP", P: "Precision", IPrec: "Interpolated precision", SetP: "Precision of the set", SetR: "Recall of the set", NumRet: "Documents retrieved", NumRel: "Relevant documents", NumQ: "Queries" };
const GEOMETRY = {
  n: "Vectors", d: "Dimensions", isotropy: "Isotropy", isotropy_ceiling: "Isotropy, maximum at this n and d", isotropy_debiased: "Isotropy, debiased",
  cv2_debiased: "Spread of the eigenvalues (CV²), debiased", participation_ratio: "Participation ratio", isoscore: "IsoScore", mean_cosine: "Mean cosine",
  one_minus_mean_cosine: "1 − mean cosine", uniformity: "Uniformity", partition_function: "Partition function, min ÷ max", effective_rank: "Effective rank",
  roy_vetterli: "Effective rank of the singular values", top1_share: "Variance in the largest direction", top10_share: "Variance in the ten largest directions",
  dims_90: "Dimensions that hold 90% of the variance", norm_mean: "Mean vector length", norm_cv: "Spread of vector lengths (CV)",
};
const NAMES = {
  model: "Model", dataset: "Dataset", status: "Status", split: "Split", partial: "On some queries only", in_domain: "In-domain", imported: "Imported", reason: "Reason",
  schema: "Format", traceback: "Traceback",
  "geometry.hubness.k": "Hubness: depth", "geometry.hubness.queries": "Hubness: queries", "geometry.hubness.documents": "Hubness: documents",
  "geometry.hubness.skewness": "Hubness, skewness", "geometry.hubness.largest_share": "Queries with the largest hub in the top 10", "geometry.hubness.antihub_share": "Documents in no top 10",
  "seconds.encode_documents": "Encoding documents, s", "seconds.encode_queries": "Encoding queries, s", "seconds.index": "Indexing, s", "seconds.search": "Search, s",
  "seconds.measure": "Computing metrics, s", "seconds.geometry": "Computing geometry, s",
  "counts.documents": "Documents", "counts.queries": "Queries", "counts.judged": "Judgements", "counts.document_tokens": "Tokens of documents",
  "counts.query_tokens": "Tokens of queries", "counts.missing": "Queries without results",
  "documents per second": "Documents per second", "fact.parameters": "Parameters", "fact.dim": "Dimensions", "fact.max_tokens": "Maximum tokens",
  "manifest.key": "Key of the result", "manifest.k": "Depth of the run", "manifest.ties": "Order of ties", "manifest.zero_vectors": "Vectors of zeros",
  "manifest.run.peak_memory_bytes": "Peak memory, GiB", "manifest.run.started": "Started", "manifest.run.finished": "Finished",
  "manifest.model.storage": "Vectors stored as", "manifest.model.similarity": "Similarity", "manifest.model.kind": "Type", "manifest.model.plugin": "Plug-in",
  "manifest.dataset.exclude_self": "Query left out of its own ranking", "manifest.dataset.limit": "Queries evaluated, at most",
  "manifest.dataset.name": "Dataset", "manifest.model.fingerprint.dtype": "Data type", "manifest.run.machine.processor": "Processor",
};
const KINDS = { dense: "Dense", lexical: "Lexical", sparse: "Learned sparse", multivector: "Multi-vector", fusion: "Fusion", reranker: "Reranker", transform: "Transformed", imported: "Imported" };
const WORDS = { lr: "learning rate", sha256: "SHA-256", gpus: "GPUs", nvidia: "NVIDIA", seconds: "seconds" };

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

function metric(name) {
  const judged = name.includes("(judged_only=True)") ? ", judged documents only" : "";
  const [, base, rest] = name.replace("(judged_only=True)", "").match(/^([A-Za-z]+)(.*)$/) ?? [null, name, ""];
  return (METRICS[base] ?? base) + rest + judged;
}

function called(key) {
  if (Object.hasOwn(NAMES, key)) return NAMES[key];
  const [group, ...rest] = key.split(".");
  if (group === "measures") return metric(rest.join("."));
  if (group === "geometry" && ["documents", "queries"].includes(rest[0])) {
    const name = GEOMETRY[rest[1]] && rest.length === 2 ? GEOMETRY[rest[1]] : said(rest.slice(1));
    return rest[0] === "queries" ? name + ", queries" : name;
  }
  if (group === "seconds") return sentence(said(rest)) + ", s";
  return sentence(said(["manifest", "index", "counts", "geometry", "cost"].includes(group) && rest.length ? rest : [group, ...rest]));
}

const said = (parts) => parts.map((part) => part.split("_").map((word) => WORDS[word] ?? word).join(" ")).join(" › ");

// Keys as the options of a menu, by what they are about.
const ABOUT = [
  [/^measures\./, "Metrics"], [/^geometry\.documents\./, "Geometry of the document vectors"], [/^geometry\.queries\./, "Geometry of the query vectors"],
  [/^geometry\.hubness\./, "Hubness"], [/^(documents per second|seconds\.)/, "Speed and time"], [/^(manifest\.run\.peak|index\.)/, "Memory and disk"],
  [/^fact\./, "Size of the model"], [/./, "Other"],
];

function menu(keys) {
  const groups = ABOUT.map(([, group]) => ({ group, options: [] }));
  for (const key of keys) groups[ABOUT.findIndex(([pattern]) => pattern.test(key))].options.push([key, called(key)]);
  const some = groups.filter((one) => one.options.length);
  return some.length === 1 ? some[0].options : some;
}
