"Writing: 100 words after a short prompt, drawn at temperature 0.75"
from common import full, lstm_weights, multiplies_bf16, reviews, silent, small, stream_of, where, words_of_10_000

unit, target = 'words/s', 10
cases = {'400/1152 x 3': dict(cfg=full, words=100), '256/512 x 3': dict(cfg=small, words=100)}
quick = {'256/512 x 3': dict(cfg=small, words=30)}
curve = dict(of='words written', measures='seconds_each', sizes=(20, 40, 80), case=lambda n: dict(cfg=small, words=n))
prompt = 'I thought that this film'

def fastai(cfg, words):
    from fastai.text.all import AWD_LSTM, TextDataLoaders, awd_lstm_lm_config, language_model_learner
    dls = TextDataLoaders.from_df(reviews(50), text_col='text', is_lm=True, valid_pct=0.2, bs=4, text_vocab=words_of_10_000())
    learn = language_model_learner(dls, AWD_LSTM, config=dict(awd_lstm_lm_config, **cfg), pretrained=False)
    def work():
        with silent(learn): learn.predict(prompt, words, temperature=0.75)
    return work, words

def ours(cfg, words): return written(cfg, words)
def ours_in_float32(cfg, words): return written(cfg, words, bf16=False)
@where(multiplies_bf16)
def ours_in_bf16(cfg, words): return written(cfg, words, bf16=True)
def ours_in_batches_of_16(cfg, words): return written(cfg, words, 16)

def written(cfg, words, n=1, **precision):
    from ulmfit_course.awd_lstm import language_model
    from ulmfit_course.generation import sample_tokens
    from ulmfit_course.generator import TextGenerator
    from ulmfit_course.vocabulary import numericalize
    vocab = words_of_10_000()
    writer = TextGenerator(language_model(len(vocab), cfg), vocab, **precision)
    return lambda: sample_tokens(writer, [numericalize(writer.tok.tokenize(prompt), vocab)], words, 0.75, n=n), words*n

def limit(machine, cfg, words):
    "For each word every weight is read once, in 16 bits, decoder included"
    return machine['memory, bytes/s']/(2*(sum(lstm_weights(cfg)) + cfg['emb_sz']*10_000))

def same():
    "The words that reading the whole text again would choose"
    import torch
    from ulmfit_course.awd_lstm import language_model
    from ulmfit_course.generation import sample_tokens
    from ulmfit_course.generator import TextGenerator
    torch.manual_seed(0)
    vocab = stream_of(100, 1000).vocab
    model = language_model(len(vocab), dict(emb_sz=20, n_hid=24, n_layers=2)).eval()
    for o in model.parameters(): o.data.mul_(3)
    writer, text = TextGenerator(model, vocab), [2, 30, 40]
    new = sample_tokens(writer, [text], 12, temperature=0)[0]
    for i,word in enumerate(new):
        model.reset()
        logits = writer.step(torch.tensor([text + new[:i]]))[0]
        assert int(logits.argmax()) == word
