"""The corpus of `imdb-small`: `python tools/imdb_texts.py UNLABELLED imdb_texts.jsonl`

UNLABELLED holds the reviews of the data set's `unsup` folder, one JSON object a line with a key `text`. To them come the
texts of lesson 01's training split. What is near-identical to a validation or test review is left out."""
import json, random, sys
from ulmfit_course.core import atomic_path
from ulmfit_course.data import split
from ulmfit_course.duplicates import near_identical
from ulmfit_course.readers import imdb, iter_texts

def corpus(
    unlabelled, # file of the `unsup` reviews
) -> list: # texts, shuffled in the same way each time
    "What stage 2 may read when lesson 01's validation and test reviews are to stay unseen"
    parts, reviews = split(imdb()), list(iter_texts(unlabelled))
    held = list(parts[parts.split != 'train'].text)
    group = near_identical(held + reviews)
    seen = set(group[:len(held)])
    texts = [t for t,g in zip(reviews, group[len(held):]) if g not in seen] + list(parts[parts.split == 'train'].text)
    random.Random(0).shuffle(texts)
    return texts

if __name__ == '__main__':
    with atomic_path(sys.argv[2]) as tmp: tmp.write_text(''.join(json.dumps(dict(text=t), ensure_ascii=False) + '\n' for t in corpus(sys.argv[1])), encoding='utf8')
