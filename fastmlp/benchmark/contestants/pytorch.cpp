// PyTorch from C++: the whole epoch is one call, without Python between the steps.

#include <torch/extension.h>

#include <algorithm>
#include <string>
#include <vector>

namespace F = torch::nn::functional;
using torch::Tensor;

struct Run {
    Tensor X, targets;
    std::vector<Tensor> weights, biases;  // of shapes (n_out, n_in) and (n_out)
    std::string hidden, output, loss;
    int64_t batch_size;
    bool is_adam;
    double rate, beta_1, beta_2, epsilon;
    std::vector<Tensor> parameters, first, second, steps;

    void start(std::vector<Tensor> new_weights, std::vector<Tensor> new_biases) {
        weights = new_weights;
        biases = new_biases;
        parameters = weights;
        parameters.insert(parameters.end(), biases.begin(), biases.end());
        first.clear();
        second.clear();
        steps.clear();
        for (auto& parameter : parameters) {
            parameter.requires_grad_(true);
            if (is_adam) {
                first.push_back(torch::zeros_like(parameter));
                second.push_back(torch::zeros_like(parameter));
                steps.push_back(torch::zeros({}, torch::kFloat));
            }
        }
    }

    Tensor logits(Tensor x) {
        for (size_t layer = 0; layer < weights.size(); ++layer) {
            x = F::linear(x, weights[layer], biases[layer]);
            if (layer + 1 == weights.size()) break;
            if (hidden == "relu") x = torch::relu(x);
            else if (hidden == "tanh") x = torch::tanh(x);
            else x = torch::sigmoid(x);
        }
        return x;
    }

    Tensor outputs_of(const Tensor& z) {
        return output == "sigmoid" ? torch::sigmoid(z) : torch::softmax(z, 1);
    }

    Tensor loss_of(const Tensor& x, const Tensor& t) {
        Tensor z = logits(x);
        if (loss == "mse") return F::mse_loss(outputs_of(z), t);
        if (output == "sigmoid") return F::binary_cross_entropy_with_logits(z, t);
        return F::cross_entropy(z, t);
    }

    void update(const std::vector<Tensor>& gradients) {
        torch::NoGradGuard no_grad;
        if (!is_adam) {
            at::_fused_sgd_(parameters, gradients, {}, 0.0, 0.0, rate, 0.0, false, false, false);
            return;
        }
        at::_foreach_add_(steps, 1.0);
        at::_fused_adam_(parameters, gradients, first, second, {}, steps, rate, beta_1, beta_2, 0.0,
                         epsilon, false, false);
    }

    Tensor epoch(const Tensor& order) {
        pybind11::gil_scoped_release release;
        std::vector<Tensor> losses;
        for (const Tensor& rows : order.split(batch_size)) {
            Tensor value = loss_of(X.index_select(0, rows), targets.index_select(0, rows));
            update(torch::autograd::grad({value}, parameters));
            losses.push_back(value.detach());
        }
        return torch::stack(losses);
    }

    Tensor outputs(const Tensor& x) {
        torch::InferenceMode guard;
        return outputs_of(logits(x));
    }
};

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
    pybind11::class_<Run>(module, "Run")
        .def(pybind11::init([](Tensor X, Tensor targets, std::string hidden, std::string output,
                               std::string loss, int64_t batch_size, bool is_adam, double rate,
                               double beta_1, double beta_2, double epsilon) {
            return Run{X, targets, {}, {}, hidden, output, loss, batch_size, is_adam, rate,
                       beta_1, beta_2, epsilon, {}, {}, {}, {}};
        }))
        .def("start", &Run::start)
        .def("epoch", &Run::epoch)
        .def("outputs", &Run::outputs);
}
