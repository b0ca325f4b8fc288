"""Maps of an embedding to the plane: t-SNE, principal components, discriminants; what they keep; new samples on them.

    plane      a map
    cloud      the samples, standardised, with their exact neighbours: one search for every map and every quality
    optimise   t-SNE
    linear     principal components, linear discriminants
    placing    new samples on a t-SNE map that stays as it is
    quality    what a map keeps
    selection  which samples are mapped

`reprkit.analysis.tsne` makes tables of them.
"""
