"""Heads: from sequences of frames to a logit for each class.

    head                    how it summarises the frames of a clip    source
    gru, lstm               recurrent, last state or attention        Cho 2014, Hochreiter 1997
    average, max            a score per frame, pooled                 Kong 2018
    attention               frames weighted class by class            Kong 2018
    multi-level-attention   the same after every hidden layer         Yu 2018
    feature-attention       features weighted, then classified        Kong 2019
    transformer             self-attention, then attention            Vaswani 2017
    logistic, moe           a classifier of the mean frame            Abu-El-Haija 2016
    frame-logistic          a score per frame, averaged               Abu-El-Haija 2016
    dbof                    a deep bag of frames, then moe            Abu-El-Haija 2016
    lstm-moe                two LSTMs, then moe                       Abu-El-Haija 2016

`settings` lists and checks their settings without TensorFlow; `build.build_head` builds the
network.
"""
