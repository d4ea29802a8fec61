//! A transformer as a graph: embedding, blocks, head; between levels what merges patches, and between encoder and
//! decoder their border.

mod builder;
mod images;
mod pair;
mod text;

use crate::graph::{Graph, KindId, LayerId, LayerKind, Sizes, TensorId, Tie};
use crate::model::{Decoder, Embeddings, Family, Images, Model};
use crate::op::{Norm, NormKind, Pattern};

impl Model {
    /// The model as a graph.
    pub fn graph(&self) -> Graph {
        let (kinds, layers) = match (self.family, &self.images, self.decoder) {
            (Family::Vit, Some(_), _) => self.row(images::embedding(self)),
            (Family::Swin, Some(images), _) => images::levels(self, images),
            (Family::T5, _, Some(decoder)) => pair::layers(self, decoder),
            (Family::Gpt | Family::Llama | Family::Bert | Family::Vit | Family::Swin | Family::T5, _, _) => {
                self.row(text::embedding(self))
            }
        };
        let tie = (self.embeddings == Embeddings::Tied).then(|| tie(&kinds, &layers));
        let sequence = self.predictions();
        Graph { name: self.name.clone(), kinds, layers, tie, sequence, vocabulary: self.vocabulary }
    }

    /// One embedding, equal blocks, one head.
    fn row(&self, embedding: LayerKind) -> (Vec<LayerKind>, Vec<KindId>) {
        let (sizes, rows) = (self.sizes(), builder::SEQUENCE);
        let kinds = vec![embedding, text::block(self, &sizes, rows, "block"), text::head(self, &sizes, rows)];
        let mut layers = vec![KindId(1); self.layers as usize + 2];
        layers[0] = KindId(0);
        layers[self.layers as usize + 1] = KindId(2);
        (kinds, layers)
    }

    /// What the head says of a sequence: one token or class for each position that comes to it.
    fn predictions(&self) -> u64 {
        let merges = self.images.as_ref().map_or(0, |images| images.levels.len().saturating_sub(1));
        self.decoder.map_or(self.sequence, |decoder| decoder.sequence) >> (2 * merges)
    }

    /// Letters of layers that see sequences as a whole.
    fn sizes(&self) -> Sizes {
        let queries = self.heads / self.groups();
        [
            ('s', self.sequence),
            ('h', self.hidden),
            ('g', self.groups()),
            ('r', queries),
            ('c', queries + 2),
            ('d', self.head()),
            ('f', self.feed_forward),
            ('e', 2),
            ('i', self.images.as_ref().map_or(0, |images| images.patch)),
            ('j', self.hidden),
            ('v', self.vocabulary),
            ('p', self.sequence),
            ('k', 2),
        ]
        .into()
    }

    /// The same for a decoder.
    fn decoder_sizes(&self, decoder: Decoder) -> Sizes {
        let mut sizes = self.sizes();
        sizes.insert('s', decoder.sequence);
        sizes
    }

    /// The same where a decoder looks at an encoder.
    fn border_sizes(&self) -> Sizes {
        let mut sizes = self.decoder.map_or_else(|| self.sizes(), |decoder| self.decoder_sizes(decoder));
        sizes.insert('t', self.sequence);
        sizes
    }

    /// The same for a level of patches in windows.
    fn level_sizes(&self, images: &Images, level: usize) -> Sizes {
        let mut sizes = self.sizes();
        let window = images.window.unwrap_or(1).pow(2);
        sizes.insert('s', window);
        sizes.insert('w', (self.sequence >> (2 * level)) / window);
        for letter in ['h', 'g', 'f'] {
            sizes.entry(letter).and_modify(|size| *size <<= level);
        }
        sizes
    }

    fn norm(&self) -> Norm {
        let kind = match self.family {
            Family::Gpt | Family::Bert | Family::Vit | Family::Swin => NormKind::Layer,
            Family::Llama | Family::T5 => NormKind::RootMeanSquare,
        };
        Norm { kind, epsilon: self.norm_epsilon }
    }

    fn pattern(&self) -> Pattern {
        match self.family {
            Family::Gpt | Family::Llama => Pattern::Causal,
            Family::Bert | Family::Vit | Family::Swin | Family::T5 => Pattern::Full,
        }
    }
}

/// The table of the embedding is the matrix of the head, and that of a border.
fn tie(kinds: &[LayerKind], layers: &[KindId]) -> Tie {
    let border = pair::table(kinds, layers).map(|(layer, table)| (LayerId(layer as u32), table));
    let head = kinds.last().expect("a head comes last");
    let last = LayerId(layers.len() as u32 - 1);
    Tie {
        owner: (LayerId(0), find(&kinds[0], "table")),
        users: border.into_iter().chain([(last, find(head, "matrix"))]).collect(),
    }
}

fn find(kind: &LayerKind, name: &str) -> TensorId {
    let (id, _) = kind.parameters().find(|(_, tensor)| tensor.name == name).expect("the kind has this parameter");
    id
}
