"Labels for many reviews: fastai's `get_preds` on loaders made before, ours from the raw texts"
from common import fastai_classifier, full, labels, lstm_weights, multiplies_bf16, our_classifier, quickest, reviews, silent, small, tokens_a_review, where

unit, target = 'reviews/s', 3
cases = {'400/1152 x 3': dict(cfg=full, n=64), '256/512 x 3': dict(cfg=small, n=128)}
quick = {'256/512 x 3': dict(cfg=small, n=64)}

def fastai(cfg, n):
    learn = fastai_classifier(cfg, reviews(64+n))
    def work():
        with silent(learn): assert len(learn.get_preds()[0]) == n
    return work, n

def read(cfg, n, precision='auto'):
    clas, texts = our_classifier(cfg, precision), reviews(64+n).text[64:].tolist()
    return lambda: clas.probabilities(texts), n

def ours(cfg, n): return read(cfg, n)
def ours_in_float32(cfg, n): return read(cfg, n, 'float32')
def ours_in_int8(cfg, n): return read(cfg, n, 'int8')
@where(multiplies_bf16)
def ours_in_bf16(cfg, n): return read(cfg, n, 'bf16')

def limit(machine, cfg, n):
    "One product with each weight a token, in the quickest type"
    return quickest(machine)/(2*sum(lstm_weights(cfg))*tokens_a_review())

def extra():
    "A classifier of 500 reviews (`imdb-small`, its head solved) on 2,500 others, in each precision that this machine has"
    import tempfile
    from ulmfit_course.backends import machine_rates
    from ulmfit_course.classifier import train_classifier
    from ulmfit_course.inference import load_bundle, save_bundle
    frame = reviews(3000)
    learn = train_classifier(frame[:500], None, 'imdb-small', epochs=(0, 0, 0, 0), lin_ftrs=None)
    with tempfile.TemporaryDirectory() as tmp:
        bundle = save_bundle(learn, f'{tmp}/bundle')
        probs = {p: load_bundle(bundle, precision=p).probabilities(frame.text[500:]) for p in machine_rates()}
    right = frame.label[500:].map(labels.index).values
    return {p: {'accuracy': float((q.argmax(1) == right).mean()), 'labels that differ': int((q.argmax(1) != probs['float32'].argmax(1)).sum()),
                'largest difference': float(abs(q - probs['float32']).max()), 'tokens/s when chosen': machine_rates()[p]} for p,q in probs.items()}

def same():
    "fastai's network with our weights says what ours says of short texts, where fastai reads every word"
    import numpy as np, torch
    tiny = dict(emb_sz=12, n_hid=16, n_layers=2)
    clas, frame = our_classifier(tiny, 'float32'), reviews(64)
    theirs = fastai_classifier(tiny, reviews(80), clas.to_ids.vocab).model.eval()
    theirs.load_state_dict(clas.model.state_dict(), strict=False)
    for ids in clas.to_ids.ids([t[:200] for t in frame.text[:20]]):
        with torch.no_grad(): expected = theirs(torch.from_numpy(ids)[None])[0].softmax(1).numpy()
        assert len(ids) <= 72 and np.allclose(clas.run([ids]), expected, atol=1e-5)
